"""What the machine can do, a plain matrix product; and how many useful operations a model's work is. A multiply and an add are two."""

from dataclasses import dataclass

import torch

from tests.speed.rounds import timed

ROWS, INNER, COLUMNS = 4096, 384, 1536  # MiniLM's own widest product
REPEATS = {"cpu": 10, "cuda": 300}
# dense bfloat16 FLOP/s by the makers' data sheets, for the share of peak; the first name found in the device's counts
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


def precision(device: torch.device) -> torch.dtype:
    """float32 on CPU (bfloat16 is slower there), bfloat16 on CUDA."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


class Product:
    """A plain (4096 x 384)(384 x 1536) product, as one call of `paired`: (seconds, FLOP)."""

    def __init__(self, device: torch.device, repeats: int | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.device, self.repeats = device, repeats or REPEATS[device.type]
        shapes = ((ROWS, INNER), (INNER, COLUMNS))
        self.a, self.b = (torch.randn(shape, generator=generator).to(device, precision(device)) for shape in shapes)

    @torch.inference_mode()
    def __call__(self) -> tuple[float, float]:
        return timed(lambda: self.a @ self.b, self.device, self.repeats), 2.0 * ROWS * INNER * COLUMNS * self.repeats


def peak(device: torch.device) -> float | None:
    """FLOP/s in bfloat16 by the data sheet; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((value for part, value in PEAKS.items() if part in name), None)


@dataclass(frozen=True)
class Shape:
    """An encoder's body: layers, width W, intermediate I."""

    layers: int
    width: int
    intermediate: int

    @property
    def _rest(self) -> int:
        """Multiply-adds of one token and layer beside its key and value: query, output, the two of the feed-forward part."""
        return 2 * self.width**2 + 2 * self.width * self.intermediate

    @property
    def _key_value(self) -> int:
        return 2 * self.width**2

    def flat(self, tokens: int) -> float:
        """FLOP of one text of a plain encoder: every token has every linear layer, and sees all tokens."""
        attended = 2 * tokens * self.width  # query times key, and weights times value
        return 2.0 * self.layers * tokens * (self._rest + self._key_value + attended)

    def prefix(self, seen: list[int]) -> float:
        """FLOP of a context whose tokens see so many keys each (profile and events, their own among them).

        Of the last layer only keys and values are useful: nobody reads what the context would become above them.
        """
        inner = sum(self._rest + 2 * self.width * keys for keys in seen)
        return 2.0 * (self.layers * len(seen) * self._key_value + (self.layers - 1) * inner)

    def candidates(self, seen: list[int]) -> float:
        """FLOP of candidate-stream tokens that see so many keys each: no keys and values of their own."""
        return 2.0 * self.layers * sum(self._rest + 2 * self.width * keys for keys in seen)


def context_keys(profile: int, events: list[int]) -> list[int]:
    """Keys that each context token sees: profile tokens the profile; an event the profile, its visible events (given) and itself."""
    return [profile] * profile + [profile + n + 1 for n in events]
