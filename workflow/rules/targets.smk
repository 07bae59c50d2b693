rule twist:
    input:
        layers=layer_files,
    output:
        STRUCTURE,
    log:
        "logs/twist/{target}.log",
    benchmark:
        "results/benchmarks/twist/{target}.tsv"
    wildcard_constraints:
        target=one_of(TWISTED),
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings=settings_of("twist"),
    message:
        "Twisted bilayer {wildcards.target}"
    shell:
        "orbitrace twist --out {output} --settings {params.settings:q} > {log} 2>&1"


rule overlap_table:
    input:
        shards=shards_of_model,
        files=orbital_files,
    output:
        OVERLAP_TABLE,
    log:
        "logs/overlap_table/{model}.log",
    benchmark:
        "results/benchmarks/overlap_table/{model}.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        settings=settings_of("overlap"),
    message:
        "Overlaps of {wildcards.model}'s data as functions of distance"
    shell:
        "orbitrace overlap {input.shards} --out {output} --settings {params.settings:q} > {log} 2>&1"


rule overlap:
    input:
        table=OVERLAP_TABLE,
        structure=structure_of,
    output:
        directory(OVERLAP),
    log:
        "logs/overlap/{model}/{target}.log",
    benchmark:
        "results/benchmarks/overlap/{model}/{target}.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        settings=settings_of("overlap"),
    message:
        "Overlap of {wildcards.target} in the basis of {wildcards.model}"
    shell:
        "orbitrace overlap --table {input.table} --structure {input.structure:q} --out {output}"
        " --settings {params.settings:q} > {log} 2>&1"


rule predict:
    input:
        checkpoint=CHECKPOINT,
        structure=structure_of,
        overlap=OVERLAP,
    output:
        directory(PREDICTION),
    log:
        "logs/predict/{model}/{target}.log",
    benchmark:
        "results/benchmarks/predict/{model}/{target}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 8
    params:
        settings=settings_of("predict"),
    message:
        "Hamiltonian of {wildcards.target}, predicted by {wildcards.model}"
    shell:
        "orbitrace predict --checkpoint {input.checkpoint} --structure {input.structure:q} --overlap {input.overlap}"
        " --out {output} --workers {threads} --settings {params.settings:q} > {log} 2>&1"
