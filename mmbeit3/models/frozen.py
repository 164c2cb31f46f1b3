"""A module that a model asks and neither trains nor saves."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import torch
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
        self._frozen_is_ready = module is None

    def init_frozen(self) -> None:
        """Initialize it as its own ``init_cfg`` says, once: a test initializes no model."""
        if not self._frozen_is_ready:
            self.__dict__[self.frozen_name].init_weights()
            self._frozen_is_ready = True

    def frozen_digest(self) -> str | None:
        """Digest of its weights, by which files tell whether it is the same; None without any."""
        frozen = self.__dict__[self.frozen_name]
        if frozen is None:
            return None
        self.init_frozen()
        digest = hashlib.blake2b(digest_size=16)
        for name, value in sorted(frozen.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _apply(self, *args: Any, **kwargs: Any) -> AsksFrozen:
        frozen = self.__dict__[self.frozen_name]
        if frozen is not None:
            frozen._apply(*args, **kwargs)
        return super()._apply(*args, **kwargs)
