"""Presets of notebooks/05_distill_draft: a target, a draft of a quarter of its sizes, distilled.

full: the source's sizes (1024/8/2048, one layer, 1536 steps of context, ETTh1, a draft pretrained on electricity).
"""

from tsfm_lab.training.timer_config import TimerConfig

DISTILL_DRAFT = {
    "smoke": TimerConfig(
        scale="smoke",
        data="co2",
        pretrain_data=("elnino",),
        seq_len=104,
        input_token_len=13,
        output_token_len=13,
        test_pred_len=(13, 52, 104),
        max_val_windows=64,
        max_test_windows=128,
        d_model=64,
        n_heads=4,
        d_ff=128,
        e_layers=3,
        train_epochs=5,
        pretrain_epochs=2,
        distill_epochs=4,
        epoch_steps=25,
        dropout=0.0,
        learning_rate=1e-3,
        draft_learning_rate=1e-2,
        device="cpu",
    ),
    "lab": TimerConfig(
        scale="lab",
        pretrain_data=("weather",),
        d_model=256,
        n_heads=4,
        d_ff=512,
        e_layers=8,
        learning_rate=5e-4,
        draft_learning_rate=1e-3,
        batch_size=64,
        epoch_steps=400,
        train_epochs=10,
        pretrain_epochs=3,
        distill_epochs=10,
    ),
    "full": TimerConfig(
        scale="full",
        multivariate=True,
        seq_len=1536,
        batch_size=64,
        train_epochs=10,
        pretrain_epochs=15,
        distill_epochs=15,
        learning_rate=1e-4,
        draft_learning_rate=5e-5,
    ),
}
