"""Equivariant layers. Each takes and returns features in a stated layout (`layout.Layout`), and knows nothing of files or
codes.

Features of an edge live in the frame of that edge (its bond along z), where every product with the edge's spherical harmonics
is a linear map between components of equal |m| (`so2.SO2Linear`). Features of a node live in the global frame.
"""
