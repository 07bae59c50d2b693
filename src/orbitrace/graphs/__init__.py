"""From calculations to what a network learns from: labels of blocks, and shards of many calculations on disk.

``traces`` makes the invariant labels, ``records`` turns a calculation into flat arrays and back, ``shards`` keeps many of them
in one zarr store (written by ``store``), and ``ingest`` fills a shard from raw calculations, which ``reading`` reads with many
workers.
"""
