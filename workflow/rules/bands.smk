rule bands:
    input:
        hamiltonian=PREDICTION,
        reference=reference_of,
    output:
        bands=BANDS,
        figures=expand(FIGURE, format=CONFIG.bands.formats, allow_missing=True),
        projections=expand(
            PROJECTED_FIGURE,
            format=CONFIG.bands.formats,
            projection=CONFIG.bands.projections,
            allow_missing=True,
        ),
    log:
        "logs/bands/{model}/{target}.log",
    benchmark:
        "results/benchmarks/bands/{model}/{target}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    params:
        settings=settings_of("bands"),
    message:
        "Bands of {wildcards.target} by {wildcards.model}"
    shell:
        "orbitrace bands {input.hamiltonian} --reference={input.reference} --out {output.bands} --workers {threads}"
        " --settings {params.settings:q} > {log} 2>&1"


rule dos:
    input:
        PREDICTION,
    output:
        dos=DOS,
        figures=expand(DOS_FIGURE, format=CONFIG.dos.formats, allow_missing=True),
        projections=expand(
            PROJECTED_DOS_FIGURE,
            format=CONFIG.dos.formats,
            projection=CONFIG.dos.projections,
            allow_missing=True,
        ),
    log:
        "logs/dos/{model}/{target}.log",
    benchmark:
        "results/benchmarks/dos/{model}/{target}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    params:
        settings=settings_of("dos"),
    message:
        "Density of states of {wildcards.target} by {wildcards.model}"
    shell:
        "orbitrace dos {input} --out {output.dos} --workers {threads} --settings {params.settings:q} > {log} 2>&1"


rule unfold:
    input:
        PREDICTION,
    output:
        unfold=UNFOLD,
        figures=expand(UNFOLD_FIGURE, format=CONFIG.unfold.formats, allow_missing=True),
    log:
        "logs/unfold/{model}/{target}.log",
    benchmark:
        "results/benchmarks/unfold/{model}/{target}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    params:
        settings=settings_of("unfold"),
    message:
        "Bands of {wildcards.target} by {wildcards.model}, unfolded onto a layer"
    shell:
        "orbitrace unfold {input} --out {output.unfold} --workers {threads} --settings {params.settings:q} > {log} 2>&1"


rule evaluate_target:
    input:
        hamiltonian=PREDICTION,
        bands=BANDS,
        reference=REFERENCE,
    output:
        TARGET_EVALUATION,
    log:
        "logs/evaluate/{model}/{target}.log",
    benchmark:
        "results/benchmarks/evaluate/{model}/{target}.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        settings=settings_of("evaluate"),
    message:
        "Errors of {wildcards.model} on {wildcards.target}"
    shell:
        "orbitrace evaluate --predicted {input.hamiltonian} --bands {input.bands} --reference {input.reference}"
        " --out {output} --settings {params.settings:q} > {log} 2>&1"
