"""Linear dynamical systems, h_{t+1} = A h_t + B u_t and y_t = C h_t, run as a scan."""

import torch
from torch import Tensor, nn


def scan_linear(A: Tensor, v: Tensor) -> Tensor:
    """h_t = A h_{t−1} + v_t from h_{−1} = 0, by doubling: after step j, h_t holds the last 2ʲ terms of Σ_l Aˡ v_{t−l}.

    log₂ t products over the whole sequence stand for t products in a row. The powers A², A⁴, … are taken in float64:
    each squaring doubles the relative error of the one before.

    Parameters
    ----------
    A: (n n), or (n) for a diagonal system.
    v: (b t n).

    Returns
    -------
    h: (b t n). Differentiable in A and v.
    """
    h, power, stride = v, A.double(), 1
    while stride < v.shape[1]:
        factor = power.to(v.dtype)
        shifted = h[:, :-stride]
        carried = shifted @ factor.T if A.ndim == 2 else shifted * factor
        h = torch.cat([h[:, :stride], h[:, stride:] + carried], dim=1)
        power = power @ power if A.ndim == 2 else power * power
        stride *= 2
    return h


class LDS(nn.Module):
    """h_{t+1} = A h_t + B u_t, y_t = C h_t, h_0 = 0: y_t answers inputs before t only, and y_0 = 0.

    Parameters start at random: eigenvalues of A within the unit disc, B and C of variance 1 / d_in and 1 / n.
    `random_LDS` draws a system of given spectral radius.

    Parameters
    ----------
    state_dim, input_dim, output_dim: sizes n, d_in, d_out.
    diagonal: A is a vector (n), its eigenvalues, and the scan is elementwise.

    Shapes
    ------
    A: (n n) or (n). B: (n d_in). C: (d_out n).
    """

    def __init__(
        self,
        state_dim: int,
        input_dim: int,
        output_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        diagonal: bool = False,
    ):
        super().__init__()
        for name, value in (("state_dim", state_dim), ("input_dim", input_dim), ("output_dim", output_dim)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.state_dim, self.input_dim, self.output_dim = state_dim, input_dim, output_dim
        options = {"dtype": dtype, "device": device}
        if diagonal:
            A = 2 * torch.rand(state_dim, **options) - 1
        else:
            A = torch.randn(state_dim, state_dim, **options) * (0.9 / state_dim**0.5)
        self.A = nn.Parameter(A)
        self.B = nn.Parameter(torch.randn(state_dim, input_dim, **options) / input_dim**0.5)
        self.C = nn.Parameter(torch.randn(output_dim, state_dim, **options) / state_dim**0.5)

    def forward(self, u: Tensor) -> Tensor:
        """u: (b t d_in) -> y: (b t d_out); unbatched (t d_in) -> (t d_out)."""
        if u.ndim not in (2, 3) or u.shape[-1] != self.input_dim:
            raise ValueError(f"u must be (b t {self.input_dim}) or (t {self.input_dim}), got shape {tuple(u.shape)}")
        batched = u if u.ndim == 3 else u[None]
        h_next = scan_linear(self.A, batched @ self.B.T)
        h = torch.cat([torch.zeros_like(h_next[:, :1]), h_next[:, :-1]], dim=1)
        y = h @ self.C.T
        return y if u.ndim == 3 else y[0]

    @property
    def spectral_radius(self) -> float:
        """Largest |eigenvalue| of A; below 1 the system forgets."""
        A = self.A.detach().double()
        return (A if A.ndim == 1 else torch.linalg.eigvals(A)).abs().max().item()


def random_LDS(
    state_dim: int,
    input_dim: int,
    output_dim: int,
    spectral_radius: float = 0.99,
    symmetric: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> LDS:
    """A random system whose A has exactly the given spectral radius.

    Symmetric: A = Q diag(λ) Qᵀ, Q a random rotation, λ uniform on [−ρ, ρ] and stretched to reach ρ: real eigenvalues of
    both signs, which spectral filters represent. Otherwise A has independent Gaussian entries, scaled: complex
    eigenvalues over the disc of radius ρ, which they do not. B and C are Gaussian, of variance 1 / d_in and 1 / n.

    Parameters
    ----------
    spectral_radius: ρ, 0 < ρ <= 1.
    seed: the same seed gives the same system on every device.

    Raises
    ------
    ValueError: spectral_radius outside (0, 1].
    """
    if not 0 < spectral_radius <= 1:
        raise ValueError(f"spectral_radius must be in (0, 1], got {spectral_radius}: beyond 1 the states explode")
    # no draw from the global generator: every parameter is set below
    lds = nn.utils.skip_init(LDS, state_dim, input_dim, output_dim, dtype=dtype, device=device or "cpu")
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(state_dim, state_dim, generator=generator, dtype=torch.float64)
    if symmetric:
        Q, _ = torch.linalg.qr(A)
        eigenvalues = 2 * torch.rand(state_dim, generator=generator, dtype=torch.float64) - 1
        A = Q @ (eigenvalues[:, None] * Q.T)
        radius = eigenvalues.abs().max()
    else:
        radius = torch.linalg.eigvals(A).abs().max()
    B = torch.randn(state_dim, input_dim, generator=generator, dtype=torch.float64) / input_dim**0.5
    C = torch.randn(output_dim, state_dim, generator=generator, dtype=torch.float64) / state_dim**0.5
    with torch.no_grad():
        lds.A.copy_(A * (spectral_radius / radius))
        lds.B.copy_(B)
        lds.C.copy_(C)
    return lds
