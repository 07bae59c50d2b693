rule take:
    input:
        lambda wildcards: CONFIG.models[wildcards.model].checkpoint,
    output:
        CHECKPOINT,
    log:
        "logs/take/{model}.log",
    wildcard_constraints:
        model=one_of(GIVEN),
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    message:
        "{wildcards.model}, trained before: {input}"
    shell:
        "cp {input:q} {output} > {log} 2>&1"


rule train:
    input:
        shards=shards_of_model,
        start=start_of_model,
    output:
        CHECKPOINT,
    log:
        "logs/train/{model}.log",
    benchmark:
        "results/benchmarks/train/{model}.tsv"
    wildcard_constraints:
        model=one_of(TRAINED),
    conda:
        "../../envs/cpu.yaml"
    threads: 8
    resources:
        mem_mb=growing(8000),
        runtime=growing(1440),
    params:
        settings=settings_of("train"),
    message:
        "Training of {wildcards.model}"
    shell:
        "orbitrace train {input.shards} --out {output} --settings {params.settings:q} > {log} 2>&1"


rule evaluate:
    input:
        checkpoint=CHECKPOINT,
        shards=shards_of_model,
    output:
        MODEL_EVALUATION,
    log:
        "logs/evaluate/{model}.log",
    benchmark:
        "results/benchmarks/evaluate/{model}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        settings=settings_of("evaluate"),
    message:
        "Errors of {wildcards.model} on calculations that it never learned"
    shell:
        "orbitrace evaluate {input.shards} --checkpoint {input.checkpoint} --out {output}"
        " --settings {params.settings:q} > {log} 2>&1"
