"""Compares `dreamood render` with diffusers' own pipelines, side by side and live.

    python tools/parity/generator.py program=bin/dreamood [out=out/parity-generator] [record=internal/diffusion/testdata]

Models: two random ones of Stable Diffusion's shape and odd sizes, made here (odd-epsilon: as 1.x; odd-v: as 2.x, with v
prediction, linear projections and a head count per block), and the reference model, whose weights are read back from its ONNX
files. Each is rendered by StableDiffusionPipeline or StableDiffusionImg2ImgPipeline in float32, and by dreamood from the ONNX
files, with the same embeddings in place of the word, the same noise (both count Philox; the initial noise also as a file) and
several schedulers. A picture agrees when 99.9 % of its values are within 1/255; for latents and text embeddings the largest
difference is printed. Writes OUT/generator.md and exits with 1 when a picture does not agree.

record= keeps the odd-v model and what diffusers made of it for the Go tests; program= (empty) does nothing else.

Needs torch, diffusers, transformers, onnx (tools/refmodel/requirements.txt).
"""
import base64
import functools
import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import torch
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "vectors"))
import diffusion as tiny  # noqa: E402
from philox import Stream  # noqa: E402

warnings.filterwarnings("ignore")
import diffusers  # noqa: E402
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler,  # noqa: E402
                       LCMScheduler, PNDMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
torch.set_num_threads(2)
SEED, LABEL = 7, 3
SCHEDULERS = {
    "ddim": (DDIMScheduler, {}), "plms": (PNDMScheduler, dict(skip_prk_steps=True)), "pndm": (PNDMScheduler, dict(skip_prk_steps=False)),
    "euler": (EulerDiscreteScheduler, {}), "euler-karras": (EulerDiscreteScheduler, dict(use_karras_sigmas=True)),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {}), "dpmpp": (DPMSolverMultistepScheduler, {}),
    "dpmpp-karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True)), "lcm": (LCMScheduler, {})}
# name, steps, guidance, negative prompt, eta, strength (0: none), noise from a file
CASES = [("ddim", 20, 7.5, "", 0.0, 0, True), ("ddim", 12, 3.0, "a red thing", 0.6, 0, False), ("plms", 15, 5.0, "", 0.0, 0, False),
         ("pndm", 10, 1.0, "", 0.0, 0, False), ("euler", 20, 7.5, "grey", 0.0, 0, False), ("euler-karras", 15, 5.0, "", 0.0, 0, False),
         ("euler-ancestral", 20, 5.0, "", 0.0, 0, False), ("dpmpp", 20, 7.5, "", 0.0, 0, False), ("dpmpp-karras", 12, 5.0, "grey", 0.0, 0, False),
         ("lcm", 4, 1.0, "", 0.0, 0, False), ("ddim", 20, 5.0, "", 0.0, 0.6, False), ("plms", 20, 5.0, "", 0.0, 0.5, False),
         ("euler", 20, 5.0, "grey", 0.0, 0.75, False), ("euler-ancestral", 10, 3.0, "", 0.0, 1.0, False), ("dpmpp", 20, 5.0, "", 0.0, 0.3, False),
         ("lcm", 8, 1.0, "", 0.0, 0.5, False)]

FEWER = CASES[::2]
RECORDED = [c for c in CASES if c[4] == 0 and c[0] in ("ddim", "euler", "plms", "dpmpp-karras")][::-1]


class Encoder(torch.nn.Module):
    """As Optimum exports it: mean and logarithm of the variance."""

    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, sample):
        return self.m.encode(sample).latent_dist.parameters


def odd(tokenizer, kind):
    """A random model of Stable Diffusion's shape: text encoder, U-Net, VAE, scheduler."""
    torch.manual_seed({"epsilon": 21, "v": 22}[kind])
    tok = CLIPTokenizer.from_pretrained(tokenizer, model_max_length=21)
    width = {"epsilon": 36, "v": 28}[kind]
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tok), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4,
        hidden_act={"epsilon": "quick_gelu", "v": "gelu"}[kind], max_position_embeddings=21, bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, attn_implementation="eager")).eval()
    blocks = {"epsilon": (24, 40, 56), "v": (12, 20, 28)}[kind]
    unet = UNet2DConditionModel(
        sample_size=(12, 20), in_channels=4, out_channels=4, block_out_channels=blocks, layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=width,
        attention_head_dim={"epsilon": 4, "v": (3, 5, 7)}[kind], use_linear_projection=kind == "v").eval()
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=40, scaling_factor=0.41).eval()
    with torch.no_grad():  # random weights hardly react to the prompt, and give faint pictures: make them
        text.get_input_embeddings().weight.mul_(15)
        for n, p in unet.named_parameters():
            if "attn2" in n and "weight" in n:
                p.mul_(3)
        unet.conv_out.weight.mul_(0.8)  # with larger ones the v model enlarges rounding too much to compare
        vae.decoder.conv_out.weight.mul_(3)
        vae.quant_conv.weight.mul_(2)
    scheduler = DDIMScheduler(**tiny.BASE, set_alpha_to_one=False, clip_sample=False,
                              prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[kind])
    return tok, text, unet, vae, scheduler


def export_odd(folder, tokenizer, tok, text, unet, vae, scheduler):
    shutil.rmtree(folder, ignore_errors=True)
    b, width = {0: "batch_size"}, text.config.hidden_size
    ids = torch.zeros(2, 21, dtype=torch.long)
    with torch.no_grad():
        tiny.export(tiny.Text(text), (ids,), f"{folder}/text_encoder/model.onnx", ["input_ids"], ["last_hidden_state", "pooler_output"],
                    {"input_ids": {**b, 1: "s"}, "last_hidden_state": {**b, 1: "s"}, "pooler_output": b})
        tiny.export(tiny.UNet(unet), (torch.zeros(2, 4, 12, 20), torch.tensor([1]), torch.zeros(2, 21, width)), f"{folder}/unet/model.onnx",
                    ["sample", "timestep", "encoder_hidden_states"], ["out_sample"],
                    {"sample": {**b, 2: "h", 3: "w"}, "encoder_hidden_states": {**b, 1: "s"}, "out_sample": {**b, 2: "h", 3: "w"}})
        tiny.export(tiny.Decoder(vae), (torch.zeros(2, 4, 12, 20),), f"{folder}/vae_decoder/model.onnx", ["latent_sample"], ["sample"],
                    {"latent_sample": b, "sample": b})
        tiny.export(Encoder(vae), (torch.zeros(2, 3, 24, 40),), f"{folder}/vae_encoder/model.onnx", ["sample"], ["latent_parameters"],
                    {"sample": b, "latent_parameters": b})
    for name, m in (("text_encoder", text), ("unet", unet), ("vae_decoder", vae), ("vae_encoder", vae)):
        config = json.loads(m.config.to_json_string() if name == "text_encoder" else m.to_json_string())
        tiny.write(f"{folder}/{name}/config.json", {k: v for k, v in config.items() if not k.startswith("_")})
    scheduler.save_pretrained(f"{folder}/scheduler")
    os.makedirs(f"{folder}/tokenizer")
    for f in tiny.TOKENIZER_FILES:
        shutil.copyfile(os.path.join(tokenizer, f), f"{folder}/tokenizer/{f}")
    tiny.change(f"{folder}/tokenizer/tokenizer_config.json", {"model_max_length": 21})
    tiny.write(f"{folder}/model_index.json", {
        "_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae_decoder": ["diffusers", "AutoencoderKL"], "vae_encoder": ["diffusers", "AutoencoderKL"]})


def reference(folder):
    """The reference model in PyTorch, its weights those of the ONNX files. Its codec stands in for a VAE."""
    sys.path.insert(0, os.path.join(HERE, "..", "refmodel"))
    import model as m
    import reload
    config = json.load(open(f"{folder}/unet/config.json"))
    text = json.load(open(f"{folder}/text_encoder/config.json"))
    net = m.Model(os.path.join(folder, "tokenizer"), widths=tuple(config["block_out_channels"]), **reference_sizes(m, config, text))
    reload.load(net, folder)
    for part in (net.text, net.unet, net.codec, net.refine):
        part.eval()

    class Codec(torch.nn.Module):
        dtype, device = torch.float32, torch.device("cpu")
        config = diffusers.configuration_utils.FrozenDict(scaling_factor=1.0, latent_channels=12, block_out_channels=[1, 1, 1], force_upcast=False)

        def encode(self, x):
            return type("E", (), {"latents": net.codec.encode(x)})()

        def decode(self, z, return_dict=True, generator=None):
            return (net.refine(net.codec.decode(z), z),)

    scheduler = DDIMScheduler.from_config({k: v for k, v in json.load(open(f"{folder}/scheduler/scheduler_config.json")).items() if k != "_class_name"})
    return CLIPTokenizer.from_pretrained(f"{folder}/tokenizer"), net.text, net.unet, Codec(), scheduler


def reference_sizes(m, config, text):
    import inspect
    known = inspect.signature(m.Model.__init__).parameters
    return {k: v for k, v in dict(layers=text["num_hidden_layers"], dim=text["hidden_size"], heads=text["num_attention_heads"]).items() if k in known}


@functools.lru_cache(maxsize=64)
def draw(purpose, n, shape, step=0):
    return torch.from_numpy(np.stack([Stream(seed=SEED, purpose=purpose, cls=LABEL, index=i, step=step).normals(int(np.prod(shape))).reshape(shape) for i in range(n)]).astype("f"))


class Noise:
    """Stands in for randn_tensor wherever a pipeline draws: Philox, by purpose and step."""

    def __init__(self, n, shape):
        self.n, self.shape, self.step = n, shape, 0

    def of(self, purpose):
        return lambda *a, **k: draw(purpose, self.n, self.shape, self.step if purpose == "diffusion.step" else 0)


def pipelines(parts, n, shape):
    import diffusers.models.autoencoders.vae as vae_module
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img as i2i
    noise = Noise(n, shape)
    vae_module.randn_tensor = noise.of("diffusion.encode")
    i2i.randn_tensor = noise.of("diffusion.noise")
    for cls, _ in SCHEDULERS.values():
        module = sys.modules[cls.__module__]
        if hasattr(module, "randn_tensor"):
            module.randn_tensor = noise.of("diffusion.step")
    return noise


def make(cls, parts, scheduler, scale):
    tok, text, unet, vae, _ = parts
    unet.register_to_config(sample_size=64)  # one constructor compares it with a number; sizes are given with every call
    if isinstance(vae, AutoencoderKL):
        pipe = cls(vae=vae, text_encoder=text, tokenizer=tok, unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
                   requires_safety_checker=False)
    else:  # the constructor wants the class; the calls do not
        pipe = cls(vae=AutoencoderKL(block_out_channels=(4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 3,
                                     up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=2, latent_channels=12),
                   text_encoder=text, tokenizer=tok, unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
                   requires_safety_checker=False)
        pipe.vae = vae
    pipe.vae_scale_factor = scale
    pipe.image_processor = diffusers.image_processor.VaeImageProcessor(vae_scale_factor=scale)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(parts, case, prompts, rows, word, picture, size, scale):
    """Pictures [n, H, W, 3], latents after every step [steps + 1, n, C, h, w], text embeddings of diffusers."""
    name, steps, guidance, negative, eta, strength, _ = case
    tok, text, unet, vae, scheduler = parts
    cls, options = SCHEDULERS[name]
    s = cls.from_config(scheduler.config, **options)
    n, shape = len(prompts), (unet.config.in_channels, *size)
    noise = pipelines(parts, n, shape)
    states = torch.cat([tiny.encode(tok, text, p, word if r is not None else "", r) for p, r in zip(prompts, rows)])
    empty = torch.cat([tiny.encode(tok, text, negative)] * n)
    latents = []

    def watch(pipe, i, t, kw):
        noise.step = first + i + 1
        latents.append(kw["latents"].clone().numpy())
        return kw

    kw = dict(prompt_embeds=states, negative_prompt_embeds=empty if guidance > 1 else None, num_inference_steps=steps, guidance_scale=guidance,
              eta=eta, callback_on_step_end=watch, output_type="np")
    first = steps - min(int(steps * strength), steps) if strength else 0
    noise.step = first
    with torch.no_grad():
        if strength:
            out = make(StableDiffusionImg2ImgPipeline, parts, s, scale)(image=[picture] * n, strength=strength, **kw)
        else:
            pipe = make(StableDiffusionPipeline, parts, s, scale)
            out = pipe(latents=draw("diffusion.noise", n, shape), height=size[0] * scale, width=size[1] * scale, **kw)
    return (out.images * 255).round().astype("uint8"), np.stack(latents), states.numpy()


def ours(program, folder, out, case, word, prompt, rows, z, picture):
    name, steps, guidance, negative, eta, strength, given = case
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    args = [program, "render", "--model", folder, "--class", word, "--prompt", prompt, "--scheduler", name, "--steps", str(steps),
            "--guidance", str(guidance), "--seed", str(SEED), "--label", str(LABEL), "--out", f"{out}/pictures", "--dump-latents", "--dump-text", "--quiet"]
    np.save(f"{out}/e.npy", np.stack(rows).astype("<f4"))
    args += ["--embeddings", f"{out}/e.npy"]
    if given:
        np.save(f"{out}/z.npy", z)
        args += ["--latents", f"{out}/z.npy"]
    if negative:
        args += ["--negative", negative]
    if eta:
        args += ["--eta", str(eta)]
    if strength:
        picture.save(f"{out}/init.png")
        args += ["--init", f"{out}/init.png", "--strength", str(strength)]
    subprocess.run(args, check=True)
    pictures = np.stack([np.asarray(Image.open(f"{out}/pictures/{word}/{i:06d}.png").convert("RGB")) for i in range(len(rows))])
    return pictures, np.load(f"{out}/pictures/latents.npy").transpose(1, 0, 2, 3, 4), np.load(f"{out}/pictures/text.npy")


def compare(program, out, name, folder, parts, word, cases, record=None):
    # As saved, with every value written down: diffusers gives another class its own defaults where nobody set one.
    parts = (*parts[:4], DDIMScheduler.from_pretrained(f"{folder}/scheduler"))
    tok, text, unet, vae, _ = parts
    size = unet.config.sample_size if isinstance(unet.config.sample_size, (tuple, list)) else (unet.config.sample_size,) * 2
    scale = 2 if isinstance(vae, AutoencoderKL) else 4
    prompt = "a photo of the {}"
    k = len(tok(word, add_special_tokens=False).input_ids)
    rng = np.random.default_rng(5)
    deviation = float(text.get_input_embeddings().weight.std())
    rows = [(deviation * rng.standard_normal((k, text.config.hidden_size))).astype("f") for _ in range(2)]
    picture = Image.fromarray((127 + 90 * np.sin(np.arange(size[0] * scale)[:, None, None] / 5 + np.arange(size[1] * scale)[None, :, None] / 7
                                                 + np.arange(3)[None, None])).astype("uint8"))
    lines, recorded, bad = [], [], 0
    for case in cases:
        n = len(rows)
        a = theirs(parts, case, [prompt.format(word)] * n, rows, word, picture, size, scale)
        z = draw("diffusion.noise", n, (unet.config.in_channels, *size)).numpy()
        recorded.append({"scheduler": case[0], "steps": case[1], "guidance": case[2], "negative": case[3], "eta": case[4], "strength": case[5],
                         "latents": tiny.floats(a[1][-1]), "pictures": base64.b64encode(a[0].tobytes()).decode()})
        if not program:
            keep(record, word, prompt, rows, picture, size, scale, recorded)
            print("recorded", case, flush=True)
            continue
        b = ours(program, folder, os.path.join(out, name), case, word, prompt, rows, z, picture)
        apart = np.abs(a[0].astype(int) - b[0].astype(int))
        share, worst = float((apart > 1).mean()), int(apart.max())
        steps = np.abs(a[1] - b[1][1:]).max(axis=(1, 2, 3, 4))
        latents = float(steps[-1])
        states = float(np.abs(a[2] - b[2]).max())
        bad += share > 0.001
        what = f"{case[0]}, {case[1]} steps, guidance {case[2]:g}" + (f", η {case[4]:g}" if case[4] else "") + (
            ", negative prompt" if case[3] else "") + (f", strength {case[5]:g}" if case[5] else "")
        lines.append(f"| {name} | {what} | {100 * (1 - share):.3f} % | {worst} | {steps[0]:.1e} | {latents:.1e} | {states:.1e} | {float(a[0].std()):.0f} |")
        print(lines[-1], flush=True)
        if record:
            keep(record, word, prompt, rows, picture, size, scale, recorded)
    return lines, bad


def keep(record, word, prompt, rows, picture, size, scale, recorded):
    tiny.write(os.path.join(record, "odd.json"), {
        "seed": SEED, "label": LABEL, "word": word, "prompt": prompt.format(word), "rows": tiny.floats(np.stack(rows)),
        "init": base64.b64encode(np.asarray(picture).tobytes()).decode(), "height": size[0] * scale, "width": size[1] * scale, "cases": recorded})


def main():
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    program = args.get("program", "bin/dreamood")
    program, out = program and os.path.abspath(program), os.path.abspath(args.get("out", "out/parity-generator"))
    record, ref = args.get("record"), os.path.abspath("models/reference")
    os.makedirs(out, exist_ok=True)
    lines, bad = [], 0
    for kind in args.get("models", "v,epsilon").split(","):
        folder = os.path.join(out, f"model-{kind}")
        parts = odd(f"{ref}/tokenizer", kind)
        export_odd(folder, f"{ref}/tokenizer", *parts)
        if record and kind == "v":
            shutil.rmtree(os.path.join(record, "odd"), ignore_errors=True)
            shutil.copytree(folder, os.path.join(record, "odd"))
        more, wrong = compare(program, out, f"odd-{kind}", folder, parts, "hamster" if kind == "v" else "bird",
                              RECORDED if record else CASES if kind == "v" else FEWER, record if kind == "v" else None)
        lines, bad = lines + more, bad + wrong
        if not program:
            return
    more, wrong = compare(program, out, "reference", ref, reference(ref), "bird", FEWER)
    lines, bad = lines + more, bad + wrong
    with open(os.path.join(out, "generator.md"), "w", encoding="utf-8") as f:
        f.write(f"diffusers {diffusers.__version__}, PyTorch {torch.__version__}, float32, CPU\n\n| model | rendering | values within 1/255 | largest difference of 255 "
                "| of the latents after the first step | of the last latents | of text embeddings | deviation of the pictures |\n| --- | --- | --: | --: | --: | --: | --: | --: |\n" + "\n".join(lines) + "\n")
    print(f"{len(lines)} renderings of 2 pictures, {bad} do not agree; {out}/generator.md")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
