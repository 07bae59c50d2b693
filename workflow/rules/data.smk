rule shard:
    input:
        manifest=ancient(MANIFEST),
    output:
        store=directory(SHARD),
        quarantine=QUARANTINE,
    log:
        "logs/shard/{dataset}/{shard}.log",
    benchmark:
        "results/benchmarks/shard/{dataset}/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    params:
        settings=settings_of("shard"),
        folder=raw_folder,
        digest=digest_of_shard,
    message:
        "Shard {wildcards.shard} of {wildcards.dataset}: raw calculations to numbers to learn from"
    shell:
        "orbitrace shard {params.folder:q} --manifest {input.manifest} --shard {wildcards.shard} --out {output.store}"
        " --quarantine {output.quarantine} --workers {threads} --settings {params.settings:q} > {log} 2>&1"


rule read:
    output:
        directory(REFERENCE),
    log:
        "logs/read/{target}.log",
    benchmark:
        "results/benchmarks/read/{target}.tsv"
    wildcard_constraints:
        target=one_of(REFERENCED),
    conda:
        "../../envs/cpu.yaml"
    params:
        settings=settings_of("read"),
        folder=raw_reference,
        digest=digest_of_reference,
    message:
        "Reference of {wildcards.target}: what the DFT code computed"
    shell:
        "orbitrace read {params.folder:q} --out {output} --settings {params.settings:q} > {log} 2>&1"
