"""Each kind of draft at work: reads, rollbacks and selections equal reading everything again, uncached."""

import pytest
import torch

from tsfm_lab.decoding.drafts import open_draft
from tsfm_lab.models.feature_draft import FeatureDraft
from tsfm_lab.models.patch_forecaster import Statistics
from tsfm_lab.models.timer_xl_draft import TimerXLDraft
from tsfm_lab.tests.decoding.tiny_timer import KINDS, P, make_draft, make_target

UNIT = Statistics(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def reference(draft, tokens, target):
    """The mean of the patch after `tokens`: (n p), by a pass over all of them."""
    return draft.law(tokens.flatten()[None, :, None], UNIT).mean[0, -P:, 0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "feature"])
@torch.no_grad()
def test_a_session_equals_reading_everything_again(kind):
    target = make_target()
    draft = make_draft(kind, target)
    tokens = [torch.randn(5, P) for _ in range(3)]
    session = open_draft(draft, 3, 20)

    def read(new):
        law = session.read(torch.stack(new))
        for row, addition in enumerate(new):
            tokens[row] = torch.cat([tokens[row], addition])
            # float32, sums in another order
            torch.testing.assert_close(law.mean[row], reference(draft, tokens[row], target), rtol=1e-4, atol=1e-5)

    first, tokens[:] = tokens[:], [torch.zeros(0, P)] * 3
    read(first)
    for _ in range(2):
        read([torch.randn(1, P) for _ in range(3)])
    for lengths, keep in [([4, 5, 6], [0, 1, 2]), ([6, 6, 7], [0, 2]), ([6, 8], [1])]:
        session.rollback(torch.tensor(lengths), torch.zeros(len(lengths), 16))
        rows = torch.zeros(len(lengths), dtype=torch.bool)
        rows[keep] = True
        session.select(rows)
        tokens[:] = [tokens[row][: lengths[row]] for row in keep]
        read([torch.randn(2, P) for _ in keep])
        read([torch.randn(1, P) for _ in keep])


@torch.no_grad()
def test_a_feature_draft_steps_from_the_targets_features_and_the_newest_patch():
    target = make_target()
    draft = make_draft("feature", target)
    tokens = torch.randn(2, 6, P)
    features = target.encode_tokens(tokens)
    session = open_draft(draft, 2, 20)
    assert session.needs_features
    session.rollback(torch.tensor([4, 4]), features[:, 4])
    law = session.read(tokens[:, 4:])
    expected = draft.law(tokens.flatten(1)[..., None], UNIT).mean[:, -P:, 0]
    torch.testing.assert_close(law.mean, expected, rtol=1e-5, atol=1e-5)  # float32
    imagined = draft.step(features[:, 4], tokens[:, 5])
    second = session.read(law.mean[:, None]).mean
    torch.testing.assert_close(second, draft.head(draft.step(imagined, law.mean)))


@torch.no_grad()
def test_a_spectral_draft_keeps_a_state_of_one_size_at_any_length():
    draft = make_draft("stu", make_target())
    sizes = []
    for length in (2, 30):
        session = open_draft(draft, 1, 64)
        session.read(torch.randn(1, length, P))
        session.rollback(torch.tensor([length - 1]), torch.zeros(1, 16))
        sizes.append([state.h.numel() for states in session.states for state in states])
    assert sizes[0] == sizes[1]


@torch.no_grad()
def test_a_state_that_was_not_kept_is_not_returned_to():
    session = open_draft(make_draft("stu", make_target()), 2, 64)
    session.read(torch.randn(2, 5, P))
    with pytest.raises(ValueError, match=r"from \[4, 4\] tokens on, asked for \[4, 3\]"):
        session.rollback(torch.tensor([4, 3]), torch.zeros(2, 16))


@torch.no_grad()
def test_a_stochastic_draft_hands_over_its_variance():
    draft = make_draft("timer_xl_draft", make_target(), draft_stochastic=True)
    assert isinstance(draft, TimerXLDraft)
    law = open_draft(draft, 2, 8).read(torch.randn(2, 3, P))
    assert law.logvar.shape == law.mean.shape == (2, P)


def test_a_context_shorter_than_a_drafts_window_is_refused():
    session = open_draft(make_draft("linear", make_target()), 2, 8)
    with pytest.raises(ValueError, match="the draft reads 3 tokens, the context has 2"):
        session.read(torch.randn(2, 2, P))


def test_a_model_that_cannot_draft_is_refused():
    class Other(torch.nn.Module):
        pass

    with pytest.raises(ValueError, match="Other cannot draft: it has no cache, state or context_length"):
        open_draft(Other(), 1, 8)


def test_a_loaded_feature_draft_needs_its_target_for_training():
    draft = FeatureDraft(P, P, d_model=16, hidden=8)
    with pytest.raises(ValueError, match="call attach"):
        draft.law(torch.randn(1, 12, 1))
