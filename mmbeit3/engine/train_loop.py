"""The training loop: one iteration is one optimizer step, and it can be left and resumed anywhere.

How it differs from mmengine's ``IterBasedTrainLoop``:

- With gradient accumulation an iteration is all the micro-batches of one step, so that schedules,
  checkpoints and logs count what a recipe counts, on any number of devices.
- Data order, augmentation and the model's random numbers follow from the position
  (:mod:`mmbeit3.engine.randomness`): resuming repeats them exactly and skips nothing one by one.
- Before every iteration the processes agree on whether to go on. A data error, a termination signal
  or a loss that is not finite ends all of them, with the reason, and with a checkpoint if the
  weights are good.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.runner import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from mmbeit3.engine.data_order import InfiniteSampler
from mmbeit3.engine.data_workers import WatchedIterator
from mmbeit3.engine.health import check_gradients, check_losses, explain
from mmbeit3.engine.interruption import Terminated, Termination, TerminationHook
from mmbeit3.engine.randomness import Stream, seed_generators
from mmbeit3.registry import LOOPS
from mmbeit3.utils import InputError
from mmbeit3.utils.collective import any_rank, mean_over_ranks, texts_of_all_ranks

# Where the message hub keeps the iteration of the last validation; names with "val" are logged.
VALIDATED = "last_validation"


@LOOPS.register_module()
class TrainLoop(BaseLoop):
    """Trains for a number of optimizer steps; ``train_cfg=dict(type="mmbeit3.TrainLoop", ...)``.

    The micro-batches of one step are ``accumulative_counts`` of the config's ``optim_wrapper``.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): The training data.
        max_iters (int): Optimizer steps.
        val_begin (int): The iteration from which to validate. Defaults to 1.
        val_interval (int): Iterations between validations. Defaults to 1000.
        dynamic_intervals (list[tuple[int, int]], optional): Other intervals from given iterations
            on. Defaults to None.

    Raises:
        InputError: The runner is not a ``mmbeit3.Runner``.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader | dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        if not hasattr(runner, "save_now"):
            raise InputError(
                f"train_cfg.type is mmbeit3.TrainLoop, and the runner a {type(runner).__name__}; "
                "set runner_type='mmbeit3.Runner' in the config"
            )
        super().__init__(runner, dataloader)
        self.max_iters = int(max_iters)
        self.max_epochs = 1  # mmengine takes the whole training for one epoch
        self.val_begin = val_begin
        self.accumulative_counts = runner.take_accumulation()
        self.intervals = calc_dynamic_intervals(val_interval, list(dynamic_intervals or ()))
        self.stop_training = False  # set by mmengine's EarlyStoppingHook
        self.termination = Termination()
        self.dataloader.stop = self.termination.check
        self._is_whole = True  # no iteration has been begun
        self._batches: Iterator[Any] | None = None  # of this pass over the data
        self.rank, self.world_size = get_dist_info()
        self._epoch = self._iter = 0  # set by Runner.resume
        runner.register_hook(TerminationHook(self.termination))
        runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)

    @property
    def epoch(self) -> int:
        """int: Always 0 while training."""
        return self._epoch

    @property
    def iter(self) -> int:
        """int: Optimizer steps done."""
        return self._iter

    @property
    def val_interval(self) -> int:
        """int: Iterations between validations, at this point of the training."""
        milestones, intervals = self.intervals
        return intervals[sum(start <= self._iter + 1 for start in milestones) - 1]

    def run(self) -> Any:
        """Train to the end.

        Returns:
            nn.Module: The model.

        Raises:
            InputError: Training cannot go on; the message says why and from where to resume.
            Terminated: The process was told to end; a checkpoint has been written.
        """
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        wrapper = runner.optim_wrapper
        # Here, as the optimizer was built for steps; this class divides them into micro-batches.
        wrapper._accumulative_counts = self.accumulative_counts
        wrapper.initialize_count_status(
            runner.model,
            self._iter * self.accumulative_counts,
            self.max_iters * self.accumulative_counts,
        )
        try:
            with self.termination.awaited():
                self._train()
        except Terminated:
            raise
        except Exception as error:  # in one process alone: the others wait for it, and are ended
            text = explain(error, self)
            if text is None or runner.saved() in text:
                raise
            if self._is_whole:
                self._save_alone()
            raise InputError(f"{text}\n{runner.saved()}") from error
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def _train(self) -> None:
        self._validate_if_due()  # a run killed in its validation
        batches = self._micro_batches()
        with self._reader(batches) as read:
            coming = read()
            while self._iter < self.max_iters and not self.stop_training:
                self.runner.model.train()
                micro_batches = self._agreed(coming)
                if self._iter + 1 < self.max_iters:
                    coming = read()
                self._run_iter(micro_batches)
                self._validate_if_due()
        if self.stop_training:
            self._save()

    def _micro_batches(self) -> Iterator[Any]:
        """Endless micro-batches, from where the training stands."""
        sampler = self.dataloader.sampler
        if isinstance(sampler, InfiniteSampler):
            sampler.seed = self.runner.seed  # resuming has brought that of the run that was left
            sampler.start_at(self._iter * self.accumulative_counts)
            return self._one_pass()
        return self._pass_by_pass()

    def _pass_by_pass(self) -> Iterator[Any]:
        for epoch in count():  # samplers that end with the data set
            if hasattr(self.dataloader.sampler, "set_epoch"):
                self.dataloader.sampler.set_epoch(epoch)
            yield from self._one_pass()

    def _one_pass(self) -> Iterator[Any]:
        self._batches = iter(self.dataloader)  # starts the workers
        return self._batches

    @contextmanager
    def _reader(self, batches: Iterator[Any]) -> Iterator[Callable[[], Callable[[], list[Any]]]]:
        """Give a function that begins to read the next step; what it returns waits for that.

        A loader's workers stop when they are a few batches ahead. Of a step with many micro-batches
        they would read the rest while nothing is computed, so a thread takes these from them.
        """

        def take() -> list[Any]:
            return [next(batches) for _ in range(self.accumulative_counts)]

        pool = None
        if self.accumulative_counts > 1 and self.dataloader.num_workers:
            pool = ThreadPoolExecutor(1)
        try:
            yield lambda: pool.submit(take).result if pool else take
        finally:
            if isinstance(self._batches, WatchedIterator):
                self._batches.close()  # which also ends a thread that waits for them
            if pool:
                pool.shutdown()

    def _agreed(self, coming: Callable[[], list[Any]]) -> list[Any]:
        """Wait for the micro-batches of a step, and go on if all processes can."""
        micro_batches, error = [], None
        try:
            micro_batches = coming()
        except Terminated:  # while it waited
            pass
        except Exception as caught:
            error = caught
        failed, terminated = any_rank(error is not None, self.termination.requested)
        if failed:
            self._save()
            self._stop(explain(error, self) if error else None, error)
        if terminated:
            self._save()
            raise self.termination.error(
                f"told to end after iteration {self._iter}: {self.runner.saved()}"
            )
        return micro_batches

    def _run_iter(self, micro_batches: list[Any]) -> None:
        runner, self._is_whole = self.runner, False
        hook_arguments = dict(batch_idx=self._iter, data_batch=micro_batches[-1])
        runner.call_hook("before_train_iter", **hook_arguments)
        outputs, problem = [], None
        for step, data in enumerate(micro_batches):
            number = self._iter * self.accumulative_counts + step
            seed_generators(runner.seed, Stream.MODEL, number * self.world_size + self.rank)
            outputs.append(runner.model.train_step(data, optim_wrapper=runner.optim_wrapper))
            problem = problem or check_losses(self, outputs[-1], data)
        if any(any_rank(problem is not None)) or (problem := check_gradients(self)):
            self._stop(problem)
        losses = {name: sum(o[name] for o in outputs) / len(outputs) for name in outputs[0]}
        runner.call_hook("after_train_iter", **hook_arguments, outputs=mean_over_ranks(losses))
        self._iter += 1
        self._is_whole = True

    def _validate_if_due(self) -> None:
        runner, done = self.runner, self._iter
        due = done % self.val_interval == 0 or done == self.max_iters
        if runner.val_loop is None or not done or done < self.val_begin or not due:
            return
        if runner.message_hub.runtime_info.get(VALIDATED) == done:
            return
        runner.message_hub.update_info(VALIDATED, done)  # the best checkpoint then knows it
        runner.val_loop.dataloader.stop = self.termination.check
        try:
            runner.val_loop.run()
        except Exception as error:
            runner.message_hub.update_info(VALIDATED, 0)  # resuming makes up for it
            if isinstance(error, Terminated):
                self._save()
                raise self.termination.error(
                    f"told to end while validating after iteration {done}: {runner.saved()}"
                ) from None
            self._save_alone()
            raise

    def _save(self) -> None:
        """Write a checkpoint between two iterations, unless there is nothing new to keep."""
        self.runner.save_now(self._iter)

    def _save_alone(self) -> None:
        """Write a checkpoint where this process can do so without the others."""
        if self.rank == 0 and not self.runner.is_sharded:
            self._save()

    def _stop(self, text: str | None, error: BaseException | None = None) -> None:
        """End all processes with the texts of those that know the reason."""
        reason = text if error is None else text or f"{type(error).__name__}: {error}"
        texts = texts_of_all_ranks(reason)
        if error is not None and text is None:
            raise error
        if self.rank:
            sys.exit(0)  # the first process says it
        raise InputError("\n".join([*dict.fromkeys(texts), self.runner.saved()]))
