"""A module that a model asks and neither trains nor saves."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn


class AsksFrozen(nn.Module):
    """A model beside which a frozen module stands, on the same device and of the same type."""

    #: The attribute that it is, None where there is none.
    frozen_name: ClassVar[str]

    def _keep_frozen(self, module: nn.Module | None) -> None:
        """Set it, before anything moves the model."""
        if module is not None:
            module.eval().requires_grad_(False)
        # No module of this one: files hold the model alone, as the published ones do.
        self.__dict__[self.frozen_name] = module

    def _apply(self, *args: Any, **kwargs: Any) -> AsksFrozen:
        frozen = self.__dict__[self.frozen_name]
        if frozen is not None:
            frozen._apply(*args, **kwargs)
        return super()._apply(*args, **kwargs)
