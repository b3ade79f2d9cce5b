"""The straight-line interpolant between noise and data."""

from jaxtyping import Array, Float


def interpolate(
    noise: Float[Array, "*batch dim"],
    data: Float[Array, "*batch dim"],
    t: Float[Array, "*#batch"],
) -> tuple[Float[Array, "*batch dim"], Float[Array, "*batch dim"]]:
    """The point x_t = (1 - t) x_0 + t x_1 and its velocity x_1 - x_0.

    **Source:** Lipman et al., arXiv 2210.02747, section 4.
    """
    t = t[..., None]
    return (1.0 - t) * noise + t * data, data - noise
