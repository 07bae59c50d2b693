# The ablation of one model, `snakemake ablate`: no part of the default target.
rule train_setup:
    input:
        shards=shards_of_model,
    output:
        SETUP_CHECKPOINT,
    log:
        "logs/train_setup/{model}/{setup}/{seed}.log",
    benchmark:
        "results/benchmarks/train_setup/{model}/{setup}/{seed}.tsv"
    wildcard_constraints:
        model=re.escape(CONFIG.ablated),
    conda:
        "../../envs/cpu.yaml"
    threads: lambda wildcards: placed("train_setup")(wildcards).threads
    resources:
        nodes=needs("train_setup", "nodes"),
        tasks=needs("train_setup", "tasks"),
        tasks_per_gpu=needs("train_setup", "tasks_per_gpu"),
        mpi=needs("train_setup", "mpi"),
        gpu=needs("train_setup", "gpu"),
        gres=needs("train_setup", "gres"),
    params:
        settings=settings_of("train_setup"),
        starter=starter("train_setup"),
    message:
        "Training of {wildcards.model} with tracegrad: {wildcards.setup}, seed {wildcards.seed}"
    shell:
        "{params.starter} orbitrace train {input.shards} --out {output} --settings {params.settings:q} > {log} 2>&1"


rule evaluate_setup:
    input:
        checkpoint=SETUP_CHECKPOINT,
        shards=shards_that_judge,
        references=references_that_judge,
    output:
        SETUP_ERRORS,
    log:
        "logs/evaluate_setup/{model}/{setup}/{seed}/{set}.log",
    benchmark:
        "results/benchmarks/evaluate_setup/{model}/{setup}/{seed}/{set}.tsv"
    wildcard_constraints:
        model=re.escape(CONFIG.ablated),
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    params:
        settings=settings_of("evaluate_setup"),
        references=lambda wildcards, input: [
            f"--reference={folder}" for folder in input.references
        ],
    message:
        "Errors of {wildcards.model} with tracegrad: {wildcards.setup}, seed {wildcards.seed}, on {wildcards.set}"
    shell:
        "orbitrace evaluate {input.shards} --checkpoint {input.checkpoint} {params.references} --out {output}"
        " --settings {params.settings:q} > {log} 2>&1"


rule ablate:
    input:
        errors_of_ablation,
    output:
        table=ABLATION.format(model=CONFIG.ablated),
        csv=Path(ABLATION.format(model=CONFIG.ablated)).with_suffix(".csv"),
        text=Path(ABLATION.format(model=CONFIG.ablated)).with_suffix(".md"),
    log:
        "logs/ablate.log",
    benchmark:
        "results/benchmarks/ablate.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        runs=runs_of_ablation,
        settings=settings_of("ablate"),
    message:
        "Table of the ablation: {output.text}"
    shell:
        "orbitrace ablate {params.runs} --out {output.table} --settings {params.settings:q} > {log} 2>&1"
