"""Spectra: from blocks to bands, Fermi level and density of states. numpy and scipy; never torch.

``bloch`` sums blocks to H(k) and S(k) on one sparse pattern; ``kpath`` and ``mesh`` choose k; ``eigensolvers`` (one file
each) find levels, on top of the sparse factorisations in ``factors`` (one file each); ``spectrum``, ``fermi`` and ``dos`` put
levels together; ``files``, ``plot`` and ``compare`` write, draw and judge them.
"""
