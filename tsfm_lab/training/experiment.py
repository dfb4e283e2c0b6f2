"""The controlled experiment of notebook 04: models that differ in their layers, trained on the same batches."""

from tsfm_lab.data.mixture import Mixture
from tsfm_lab.data.registry import UNKNOWN, entries, find
from tsfm_lab.data.stream import TrainingStream
from tsfm_lab.data.transforms import pretraining_chain
from tsfm_lab.models.moirai import MoiraiModule
from tsfm_lab.models.moirai_moe import ExpertDecoder
from tsfm_lab.runs import RunDirectory
from tsfm_lab.training.centroids import cluster_tokens, set_centroids
from tsfm_lab.training.corpora import pretraining_mixture
from tsfm_lab.training.presets.pretrain_stu import PretrainStu
from tsfm_lab.training.pretrain import MoiraiPretrain
from tsfm_lab.training.recorder import Validation
from tsfm_lab.training.specs import make_pretraining, patch_sizes_of
from tsfm_lab.training.trainer import TrainerOptions, fit

CLUSTERED_BATCHES = 8  # of the stream, whose tokens are clustered


def make_mixture(config: PretrainStu) -> Mixture:
    """The mixture that the configuration's `data` names."""
    return pretraining_mixture(
        config.data,
        held_out=config.held_out,
        synthetic_series=config.synthetic_series,
        synthetic_length=config.synthetic_length,
    )


def make_stream(config: PretrainStu, mixture: Mixture, seed: int, spec: str = "moirai") -> TrainingStream:
    """The batches of one seed; the same for all models but those that fix their own patch sizes."""
    chain = pretraining_chain(patch_sizes_of(spec, config), config.max_seq_len)
    return TrainingStream(mixture, chain, seed=seed, batch_rows=config.batch_rows, max_seq_len=config.max_seq_len)


def train(
    spec: str,
    config: PretrainStu,
    run: RunDirectory,
    mixture: Mixture,
    *,
    seed: int,
    max_steps: int | None = None,
    validation: Validation | None = None,
    log_lines: int = 6,
) -> MoiraiPretrain:
    """Train one model, or go on, in the child directory `<spec>-s<seed>` of `run`; a finished one is opened.

    spec: see `specs.parse_spec`. max_steps: of this run, where it is not the configuration's. A MOIRAI-MoE that routes
    by centroids gets them from the tokens of the "moirai" trained before it in the same run.
    Raises ValueError where that has not been trained.
    """
    steps = max_steps or config.max_steps
    model = make_pretraining(spec, config, seed=seed, max_steps=steps)
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    child = run.child(f"{spec}-s{seed}", model=spec, seed=seed, max_steps=steps, parameters=parameters)
    options = TrainerOptions(
        max_steps=steps,
        precision=config.precision,
        device=config.device,
        compile=config.compile,
        num_workers=config.num_workers,
        checkpoint_steps=config.checkpoint_steps,
        checkpoint_minutes=config.checkpoint_minutes,
        tensorboard=config.tensorboard,
        log_lines=log_lines,
    )
    stream = make_stream(config, mixture, seed, spec)
    if "centroid" in model.module.encoder.state_dict() and not child.finished:
        _cluster(model.module, stream, run, seed)
    checksums = data_checksums(config)
    fit(model, stream, child, options, validation=validation, title=f"{spec} s{seed}", data_checksums=checksums)
    return model


def _cluster(module: ExpertDecoder, stream: TrainingStream, run: RunDirectory, seed: int) -> None:
    """Set the centroids of a MOIRAI-MoE from the trained "moirai" of the run and the first batches of its stream."""
    folder = run.path / f"moirai-s{seed}" / "model"
    if not folder.is_dir():
        raise ValueError(
            f"a model with router=centroid routes by clusters of a trained MOIRAI's tokens, but {folder} does not "
            "exist: put 'moirai' before it in MODELS, or choose router=linear"
        )
    num_experts = module.encoder.layers[0].ffn.router.centroid.shape[0]
    batches = (stream.batch(step) for step in range(CLUSTERED_BATCHES))
    set_centroids(module, cluster_tokens(MoiraiModule.from_pretrained(folder), batches, num_experts, seed=seed))


def data_checksums(config: PretrainStu) -> dict[str, str]:
    """SHA-256 of every file of the data sets named, pretrained on and held out, where the registry knows it."""
    names = {name.partition("=")[0] for name in (*config.data, *config.held_out)} & entries().keys()
    files = [file for name in sorted(names) for file in find(name).files]
    return {file.path: file.sha256 for file in files if file.sha256 != UNKNOWN}
