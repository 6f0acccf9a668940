"""Image classifiers of Hugging Face transformers, with their processor's normalisation inside the Target."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..core.errors import MissingExtra, ModelError, NotYetSupported, SettingError
from ..core.probes import Finding
from .target import Target
from .tasks import Classification, Normalize

PROCESSOR, COMBINED = "preprocessor_config.json", "processor_config.json"


def load_classifier(
    name: str,
    *,
    num_classes: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    preprocess: Normalize | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Target:
    """A transformers image classifier from a folder or, by its id, from the hub or its cache.

    Code that comes with a model is never run, and a folder is read without the network.

    Args:
        name: a folder made by ``save_pretrained``, or an id such as ``"microsoft/resnet-18"``.
        num_classes: checked against the model if given.
        bounds: box of raw inputs; (0, 1) unless ``preprocess`` is given.
        preprocess: used in the place of the processor's normalisation.
        image_shape: (channels, height, width) of the images, checked against the model.

    Raises:
        MissingExtra: transformers is not installed.
        ModelError: not found, damaged, incomplete, not a classifier, or of another shape.
    """
    model = pretrained("AutoModelForImageClassification", name, what="an image classifier")
    classes = int(model.config.num_labels)
    if num_classes is not None and num_classes != classes:
        raise ModelError(f"num_classes is {num_classes}, but the model {name!r} has {classes} outputs; leave it out.")
    _check_shape(name, model.config, image_shape)
    preprocess, findings = own_preprocess(name, bounds=bounds, given=preprocess)
    short = short_name(name)
    target = Target(
        model, task=Classification(classes), bounds=bounds, preprocess=preprocess, name=short, source=f"hf:{short}"
    )
    target.findings.extend(findings)
    return target


def pretrained(
    auto: str,
    name: str,
    *,
    what: str,
    unused: Callable[[str], bool] = lambda key: False,
    safetensors: bool | None = None,
) -> Any:
    """A model of transformers in float32 and evaluation mode; code that comes with it is never run.

    Args:
        auto: the class of transformers that finds the architecture, such as ``"AutoModel"``.
        name: a folder, read without the network, or an id.
        what: what is wanted, for errors: ``"an image classifier"``.
        unused: says of a tensor's name whether it may be absent from the file, because it is not used.
        safetensors: True refuses weights in any other format; None prefers them.

    Raises:
        MissingExtra: transformers is not installed.
        ModelError: not found, damaged, of another kind, or without some of its weights.
    """
    transformers = require_transformers()
    local = Path(name).is_dir()
    if not local and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise ModelError(f"There is no folder {name!r} for 'hf:{name}'. Check the path.")
    try:
        with quietly(transformers):
            model, info = getattr(transformers, auto).from_pretrained(
                name,
                local_files_only=local,
                trust_remote_code=False,
                use_safetensors=safetensors,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises many kinds for files that are missing, damaged or of another task
        where = "" if local else " There is no such folder either."
        raise ModelError(
            f"'hf:{name}' cannot be loaded as {what}: {first_line(error)}.{where} "
            f"Needed: config.json and model.safetensors of {what}."
        ) from error
    lacking = [str(key) for key in (*sorted(info.get("missing_keys", ())), *info.get("mismatched_keys", ()))]
    lacking = [key for key in lacking if not unused(key)]
    if lacking:
        raise ModelError(
            f"The weights of 'hf:{name}' lack {len(lacking)} tensors that the model needs ({', '.join(lacking[:5])}); "
            f"they would be random. Choose the files of {what}."
        )
    return model.to(torch.float32).eval()


def own_preprocess(
    name: str, *, bounds: tuple[float, float], given: Normalize | None
) -> tuple[Normalize | None, list[Finding]]:
    """The normalisation to use, and a finding where the model does not say which.

    Args:
        name: folder or id.
        bounds: box of raw inputs; (0, 1) unless ``given`` is.
        given: used in the place of the processor's normalisation.
    """
    if given is not None:
        return given, []
    processor = _processor(require_transformers(), name, Path(name).is_dir())
    if processor is None:
        return None, [_no_processor(name)]
    if bounds != (0.0, 1.0):
        raise SettingError(
            f"bounds is {bounds}, but the processor of {name!r} means images in [0, 1]; give mean and std too."
        )
    return normalization(processor, name=name), []


def short_name(name: str) -> str:
    """A folder's own name, or the id."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def normalization(processor: Mapping[str, Any], *, name: str) -> Normalize | None:
    """What a processor does to the values of a pixel, for raw images in [0, 1].

    A processor works on pixels 0..255: v = pixel * rescale_factor, then
    (v - mean) / std. With raw = pixel / 255 and s = 255 * rescale_factor this is
    (raw - mean / s) / (std / s).

    Raises:
        ModelError, NotYetSupported: fields without meaning, or steps that are not normalisation.
    """
    for step in ("rescale_offset", "do_flip_channel_order"):
        if processor.get(step):
            raise NotYetSupported(
                f"The processor of {name!r} sets {step}, which is not built in. "
                "Write a factory that returns the model with this step inside, and load it with python:MODULE:FACTORY."
            )
    try:
        scale = 255.0 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
        mean, std = [0.0], [1.0]
        if processor.get("do_normalize", True) and processor.get("image_mean") is not None:
            mean, std = ([float(v) for v in _listed(processor[key])] for key in ("image_mean", "image_std"))
        if abs(scale - 1) < 1e-6:
            scale = 1.0
        if scale == 1 and mean == [0.0] and std == [1.0]:
            return None
        return Normalize([value / scale for value in mean], [value / scale for value in std])
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise ModelError(
            f"The processor configuration of {name!r} cannot be used ({type(error).__name__}: {error}); "
            "correct rescale_factor, image_mean and image_std, or give mean and std."
        ) from error


def require_transformers() -> Any:
    """The package; MissingExtra if it is not installed."""
    _hide_broken_torchvision()
    try:
        import transformers
    except ImportError:
        raise MissingExtra("transformers", "hf", "Loading a Hugging Face model") from None
    return transformers


def _hide_broken_torchvision() -> None:
    """A torchvision that cannot be imported, as one built for another torch, counts as not installed.

    transformers looks only whether the package is there, and then fails on models that do without it.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception:  # its own code runs here and may raise anything
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        known = sys.modules.get("transformers.utils.import_utils")
        for name in ("is_torchvision_available", "is_torchvision_v2_available"):
            getattr(getattr(known, name, None), "cache_clear", bool)()


def _check_shape(name: str, config: Any, image_shape: tuple[int, int, int] | None) -> None:
    if image_shape is None:
        return
    channels, *size = image_shape
    wanted_channels = getattr(config, "num_channels", channels)
    if isinstance(wanted_channels, int) and wanted_channels != channels:
        raise ModelError(f"'hf:{name}' takes images with {wanted_channels} channels, the data have {channels}.")
    wanted = getattr(config, "image_size", None)
    if wanted is not None and [int(side) for side in (_listed(wanted) * 2)[:2]] != size:
        raise ModelError(
            f"'hf:{name}' takes images of {wanted} pixels a side, the data have {size[0]}x{size[1]}; "
            f"read the data with image_size={wanted}."
        )


def _processor(transformers: Any, name: str, local: bool) -> Mapping[str, Any] | None:
    """The processor's configuration, or None if the model has none."""
    for file in (PROCESSOR, COMBINED):
        path = Path(name) / file if local else _cached(transformers, name, file)
        if path is None or not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{file} of {name!r} is damaged: {error}. Copy the model again, or give mean and std."
            ) from error
        found = content.get("image_processor", content) if isinstance(content, Mapping) else content
        if not isinstance(found, Mapping):
            raise ModelError(f"{file} of {name!r} holds no mapping. Copy the model again, or give mean and std.")
        return found
    return None


def _cached(transformers: Any, name: str, file: str) -> Path | None:
    found = transformers.utils.cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def _no_processor(name: str) -> Finding:
    return Finding(
        code="no-processor",
        severity="warning",
        message=f"The model {name!r} has no {PROCESSOR}; raw images in [0, 1] go into it without normalisation.",
        remedy="Give mean and std if the model was trained with normalised images.",
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def quietly(transformers: Any) -> Iterator[None]:
    """No progress bars, no load reports (what matters of them becomes an error), no trace in the random state."""
    logging = transformers.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
