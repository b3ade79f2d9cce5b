"""The names of OGBench's data sets, known to every layer that names one."""

from itertools import product

_DATA_TYPES = {
    ("pointmaze-medium", "pointmaze-large", "pointmaze-giant", "pointmaze-teleport"): (
        "navigate",
        "stitch",
    ),
    ("antmaze-medium", "antmaze-large", "antmaze-teleport"): ("navigate", "stitch", "explore"),
    ("antmaze-giant",): ("navigate", "stitch"),
    ("humanoidmaze-medium", "humanoidmaze-large", "humanoidmaze-giant"): ("navigate", "stitch"),
    ("cube-single", "cube-double", "cube-triple", "cube-quadruple", "cube-octuple"): (
        "play",
        "noisy",
    ),
    ("scene",): ("play", "noisy"),
    ("puzzle-3x3", "puzzle-4x4", "puzzle-4x5", "puzzle-4x6"): ("play", "noisy"),
}

DOMAIN_OF = {
    f"{domain}-{data_type}": domain
    for domains, data_types in _DATA_TYPES.items()
    for domain, data_type in product(domains, data_types)
}
"""The domain of each OGBench name: `cube-double-play` belongs to `cube-double`."""

VERSION = "-v0"
"""What ends the name of every data set."""

SHARDED = "-100m"
"""What marks the name of a folder of shards, as in `cube-quadruple-play-100m-v0`."""
