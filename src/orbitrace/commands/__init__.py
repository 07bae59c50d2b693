"""Sub-commands of the command line that fill files of their own, and the options that all sub-commands share."""
