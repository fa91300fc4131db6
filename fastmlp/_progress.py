"""The progress bar of a fit."""

from ._extras import require


class Progress:
    """A tqdm bar over the samples of all epochs, with their rate, the epoch and its loss; nothing where not wanted."""

    def __init__(self, wanted, epochs, samples):
        self.epochs, self.bar = epochs, None
        if wanted:
            tqdm = require("tqdm", extra="cli").tqdm
            self.bar = tqdm(total=epochs * samples, unit=" samples", unit_scale=True, desc=f"epoch 0/{epochs}")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()

    def advance(self, samples):
        if self.bar is not None:
            self.bar.update(samples)

    def epoch_done(self, history):
        if self.bar is not None:
            self.bar.set_description(f"epoch {len(history.loss)}/{self.epochs}", refresh=False)
            self.bar.set_postfix(loss=f"{history.loss[-1]:.5f}", refresh=False)
