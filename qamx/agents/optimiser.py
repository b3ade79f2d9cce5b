"""The one optimiser of a method."""

import optax


def adam(
    learning_rate: float = 3e-4, gradient_clip: float | None = None
) -> optax.GradientTransformation:
    """Adam over all trained networks together (Kingma and Ba, arXiv 1412.6980).

    **Arguments:** `gradient_clip`, where given, bounds the global gradient norm (critic and
    policy together) before Adam sees it.
    """
    step = optax.adam(learning_rate)
    if gradient_clip is None:
        return step
    return optax.chain(optax.clip_by_global_norm(gradient_clip), step)
