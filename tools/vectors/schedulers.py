"""Records what diffusers' schedulers compute, for the tests of internal/diffusion.

    /path/of/venv/bin/python tools/vectors/schedulers.py [out=internal/diffusion/testdata/scheduler.json]

Each case is a configuration, a number of steps, the timesteps, the factor of the initial noise, the weights of a stand-in for a
model, and the samples after every step: two of them, [2, 5], led at once, in float32 as diffusers computes. Noise that a
scheduler adds comes from the Philox streams (seed 5, purpose "diffusion.step", index the sample, step the step), so Go draws
the same. Cases with "first" begin at that step, from a clean sample with add_noise, as image-to-image does. Floats are
little-endian float32 in base64.

Needs torch and diffusers (see requirements.txt).
"""
import base64
import json
import math
import sys

import numpy as np
import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,
                       LCMScheduler, PNDMScheduler)

from philox import Stream

torch.set_num_threads(1)
ITEMS, SIZE = 2, 5
SHAPE = (ITEMS, SIZE, 1, 1)
CLASSES = {"ddim": DDIMScheduler, "pndm": PNDMScheduler, "euler": EulerDiscreteScheduler, "ancestral": EulerAncestralDiscreteScheduler,
           "dpm": DPMSolverMultistepScheduler, "lcm": LCMScheduler}
SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
V, X = dict(prediction_type="v_prediction"), dict(prediction_type="sample")
COSINE = dict(beta_schedule="squaredcos_cap_v2", steps_offset=0)
LINEAR = dict(beta_schedule="linear", beta_start=0.0001, beta_end=0.02, steps_offset=0)
ZERO = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")
SPACINGS = [dict(timestep_spacing=s) for s in ("leading", "linspace", "trailing")]


def cases():
    """(class, options, steps, eta, first)"""
    out = []

    def add(name, options, steps=50, eta=0.0, first=0):
        out.append((name, options, steps, eta, first))

    free = dict(clip_sample=False, set_alpha_to_one=False)
    for kind in ({}, V, X):
        add("ddim", {**free, **kind})
        add("ddim", {**free, **kind}, eta=1.0)
        add("ddim", {**free, **kind}, first=20)
        for s in SPACINGS:
            add("ddim", {**free, **kind, **s}, 23)
    for o in (dict(clip_sample_range=0.7), dict(set_alpha_to_one=True, clip_sample=False), {**free, **LINEAR}, {**free, **COSINE, **V},
              dict(thresholding=True), dict(thresholding=True, dynamic_thresholding_ratio=0.8, sample_max_value=1.6),
              {**free, **ZERO, **V}, {**free, **ZERO, **X}, {**free, **ZERO, **V, **COSINE}):
        add("ddim", o)
        add("ddim", o, 30, eta=0.4)
    for steps in (1, 2, 7, 16, 250):
        add("ddim", free, steps)
    for skip in (True, False):
        for kind in ({}, V):
            add("pndm", dict(skip_prk_steps=skip, **kind))
            add("pndm", dict(skip_prk_steps=skip, set_alpha_to_one=True, **kind), 20)
        add("pndm", dict(skip_prk_steps=skip, beta_schedule="linear"), 20)
    for s in SPACINGS:
        add("pndm", dict(skip_prk_steps=True, **s))
    for first in (1, 2, 30):
        add("pndm", dict(skip_prk_steps=True), first=first)
    add("pndm", dict(skip_prk_steps=True), 2)
    add("pndm", dict(skip_prk_steps=False), 4)
    add("pndm", dict(skip_prk_steps=True), 1)
    for kind in ({}, V, X):
        for s in SPACINGS:
            add("euler", {**kind, **s})
            add("euler", {**kind, **s}, first=17)
            if kind is not X:
                add("ancestral", {**kind, **s})
                add("ancestral", {**kind, **s}, first=17)
    for o in (dict(use_karras_sigmas=True), dict(use_exponential_sigmas=True), dict(interpolation_type="log_linear"),
              dict(interpolation_type="log_linear", use_karras_sigmas=True), dict(final_sigmas_type="sigma_min"),
              dict(use_karras_sigmas=True, sigma_min=0.05, sigma_max=9.0, final_sigmas_type="sigma_min"), {**ZERO, **V}, ZERO,
              {**COSINE, **V}, LINEAR):
        add("euler", o)
        add("euler", {**o, "timestep_spacing": "leading"}, 21)
    for o in ({**ZERO, **V}, ZERO, {**COSINE, **V}, LINEAR):
        add("ancestral", o)
    for name in ("euler", "ancestral"):
        for steps in (1, 2, 9, 100):
            add(name, {}, steps)
    for kind in ({}, V, X):
        for s in SPACINGS:
            add("dpm", {**kind, **s})
        for order in (1, 2, 3):
            for solver in ("midpoint", "heun"):
                add("dpm", dict(solver_order=order, solver_type=solver, **kind), 50 if solver == "midpoint" else 12)
        add("dpm", dict(use_karras_sigmas=True, **kind))
        add("dpm", dict(use_karras_sigmas=True, **kind), first=25)
        add("dpm", kind, 11, first=5)
    for o in (dict(use_karras_sigmas=True, final_sigmas_type="sigma_min"), dict(use_exponential_sigmas=True), dict(euler_at_final=True),
              dict(lower_order_final=False, solver_order=3), dict(lower_order_final=False, final_sigmas_type="sigma_min", solver_order=3),
              dict(thresholding=True), dict(thresholding=True, dynamic_thresholding_ratio=0.8, sample_max_value=1.6),
              dict(lambda_min_clipped=-5.1, **COSINE), dict(lambda_min_clipped=-5.1, use_karras_sigmas=True, **COSINE), {**ZERO, **V}, ZERO,
              dict(use_karras_sigmas=True, sigma_min=0.05, sigma_max=9.0), LINEAR, dict(final_sigmas_type="sigma_min", euler_at_final=True)):
        add("dpm", o)
        add("dpm", o, 10)
    for steps in (1, 2, 3, 15, 100):
        add("dpm", {}, steps)
        add("dpm", dict(solver_order=3, timestep_spacing="trailing"), steps)
    for kind in ({}, V, X):
        for steps in (1, 4, 8, 50):
            add("lcm", kind, steps)
    for o in (dict(clip_sample=True, clip_sample_range=0.7), dict(thresholding=True), dict(original_inference_steps=100), dict(timestep_scaling=3.0),
              {**V, "rescale_betas_zero_snr": True}, {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}):
        add("lcm", o, 7)
    add("lcm", {}, 8, first=5)
    return out


def floats(a):
    return base64.b64encode(np.ascontiguousarray(a, dtype="<f4").tobytes()).decode()


def level(s, i):
    """Signal and noise of what the model is shown at step i."""
    if hasattr(s, "sigmas"):
        sigma = float(s.sigmas[i])
        return 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    alpha = float(s.alphas_cumprod[int(s.timesteps[i])])
    return math.sqrt(alpha), math.sqrt(1 - alpha)


def gains(s, i):
    """The weights of the stand-in: the best linear answer for data of standard deviation 0.7, which leads to pictures of that
    size, and something that is not linear."""
    a, b = level(s, i)
    variance = a * a * 0.49 + b * b
    return {"epsilon": (b / variance, 0.3 * a), "v_prediction": (a * b * (1 - 0.49) / variance, 0.3 * a),
            "sample": (a * 0.49 / variance, 0.3)}[s.config.prediction_type]


def model(x, t, linear, bent):
    """A cheap stand-in for a U-Net, in float64, rounded to float32."""
    return (linear * x.astype("d") + bent * np.sin(1.7 * x.astype("d") + t / 300)).astype("f")


def noise(step):
    return torch.from_numpy(np.stack([Stream(seed=5, purpose="diffusion.step", index=i, step=step).normals(SIZE) for i in range(ITEMS)]).reshape(SHAPE))


def record(name, options, steps, eta, first):
    cls = CLASSES[name]
    options = {**SD, **options} if name != "lcm" else options
    with np.errstate(all="ignore"):
        s = cls.from_config(options)
    s.set_timesteps(steps)
    module = sys.modules[cls.__module__]
    now = first
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda shape, **_: noise(now).reshape(shape)
    start = np.random.default_rng(7).standard_normal(SHAPE).astype("f")
    x = torch.from_numpy(start.copy())
    timesteps = s.timesteps[first:]
    if hasattr(s, "set_begin_index"):  # or schedules whose first timestep occurs twice lose a step
        s.set_begin_index(first)
    if first:
        x = s.add_noise(x, noise(1000), timesteps[:1].repeat(ITEMS))
    else:
        x = x * s.init_noise_sigma
    samples, weights = [x.numpy()], []
    for i, t in enumerate(timesteps):
        now = first + i
        seen = s.scale_model_input(x, t)
        weights.append(np.array(gains(s, now), dtype="f"))
        output = torch.from_numpy(model(seen.numpy(), float(t), *map(float, weights[-1])))
        kw = {"eta": eta} if name == "ddim" else {}
        x = s.step(output, t, x, **kw).prev_sample
        samples.append(x.numpy())
    samples = np.stack(samples)
    assert np.isfinite(samples).all(), (name, options, steps)
    case = {"config": {"_class_name": cls.__name__, **options}, "steps": steps, "eta": eta, "first": first,
            "timesteps": floats(s.timesteps.numpy()), "sigma": float(s.init_noise_sigma), "samples": floats(samples),
            "gains": floats(np.stack(weights))}
    return case


def main():
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    out = args.get("out", "internal/diffusion/testdata/scheduler.json")
    recorded = [record(*c) for c in cases()]
    import diffusers
    start = np.random.default_rng(7).standard_normal(SHAPE).astype("f")
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"diffusers": diffusers.__version__, "torch": torch.__version__, "start": floats(start), "noise": floats(noise(1000)),
                   "cases": recorded}, f, separators=(",", ":"))
        f.write("\n")
    print(len(recorded), "cases")


if __name__ == "__main__":
    main()
