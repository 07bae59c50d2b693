# From raw DFT outputs to the bands of the targets in config.yaml. Each rule is one stage of the command line `orbitrace`.
from snakemake.utils import min_version

min_version("9.0")

# A configuration given by --configfile stands in for config.yaml instead of being merged with the embedded example.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/learning.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/bands.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/ablation.smk"


rule all:
    default_target: True
    input:
        REPORT,
    localrule: True
