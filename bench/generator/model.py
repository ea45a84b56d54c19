"""Make a random Stable Diffusion pipeline of 18 M parameters (U-Net) at 256 px, for `make bench-generator`.

    python model.py --tokenizer models/reference/tokenizer --out .cache/bench-generator/sd18m

Writes OUT/torch, which diffusers loads, and OUT/onnx, exported by Optimum. Its pictures are noise: only time is measured
with it. The same seed gives the same weights.
"""
import argparse
import os
import shutil

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from optimum.exporters.onnx import main_export
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH, WIDTH = 77, 256  # of prompts in tokens, of text embeddings


def pipeline(tokenizer):
    torch.manual_seed(0)
    tok = CLIPTokenizer.from_pretrained(tokenizer, model_max_length=LENGTH)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tok), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=LENGTH, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
        projection_dim=WIDTH))
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=4, out_channels=4, block_out_channels=(64, 128, 256), layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=WIDTH, attention_head_dim=8)
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 64, 64, 64), sample_size=256, norm_num_groups=32,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1)
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text.eval(), tokenizer=tok, unet=unet.eval(), scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    if os.path.exists(os.path.join(a.out, "onnx", "model_index.json")):
        return
    shutil.rmtree(a.out, ignore_errors=True)
    made = pipeline(a.tokenizer)
    made.save_pretrained(os.path.join(a.out, "torch"))
    part = os.path.join(a.out, "part")
    main_export(os.path.join(a.out, "torch"), output=part, task="text-to-image", do_validation=False)
    os.replace(part, os.path.join(a.out, "onnx"))
    print("U-Net of %.1f M parameters in %s" % (made.unet.num_parameters() / 1e6, a.out))


if __name__ == "__main__":
    main()
