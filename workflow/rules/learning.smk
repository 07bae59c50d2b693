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
    threads: lambda wildcards: placed("train")(wildcards).threads
    resources:
        nodes=needs("train", "nodes"),
        tasks=needs("train", "tasks"),
        tasks_per_gpu=needs("train", "tasks_per_gpu"),
        mpi=needs("train", "mpi"),
        gpu=needs("train", "gpu"),
        gres=needs("train", "gres"),
    params:
        settings=settings_of("train"),
        starter=starter("train"),
    message:
        "Training of {wildcards.model}"
    shell:
        "{params.starter} orbitrace train {input.shards} --out {output} --settings {params.settings:q} > {log} 2>&1"


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
    params:
        settings=settings_of("evaluate"),
    message:
        "Errors of {wildcards.model} on calculations that it never learned"
    shell:
        "orbitrace evaluate {input.shards} --checkpoint {input.checkpoint} --out {output}"
        " --settings {params.settings:q} > {log} 2>&1"
