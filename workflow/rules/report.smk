rule report:
    input:
        unpack(shown),
    output:
        REPORT,
    log:
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    localrule: True
    conda:
        "../../envs/cpu.yaml"
    params:
        settings=settings_of("report"),
        ablations=ablations_shown,
    message:
        "Report: {output}"
    shell:
        "orbitrace report --out {output} --settings {params.settings:q} > {log} 2>&1"
