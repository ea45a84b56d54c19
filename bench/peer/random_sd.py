"""Random Stable Diffusion pipelines for benchmarks: the same seed gives the same weights, and pictures are noise."""
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIZES = {
    # Stable Diffusion 1.5: 860 M parameters in the U-Net, 512 pixels.
    "sd15": dict(latent=64, width=768, heads=12, layers=12, channels=(320, 640, 1280, 1280), per_block=2, vae=(128, 256, 512, 512)),
    # 18 M parameters in the U-Net, 256 pixels.
    "sd18m": dict(latent=32, width=256, heads=4, layers=4, channels=(64, 128, 256), per_block=2, vae=(32, 64, 64, 64), vae_per_block=1),
    "tiny": dict(latent=16, width=64, heads=2, layers=2, channels=(32, 64), per_block=1, vae=(32, 32)),
}
LENGTH = 77  # tokens of a prompt


def pipeline(size, tokenizer):
    torch.manual_seed(0)
    s, n = SIZES[size], len(SIZES[size]["channels"])
    tok = CLIPTokenizer.from_pretrained(tokenizer, model_max_length=LENGTH)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tok), hidden_size=s["width"], intermediate_size=4 * s["width"], num_hidden_layers=s["layers"],
        num_attention_heads=s["heads"], max_position_embeddings=LENGTH, bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, projection_dim=s["width"]))
    unet = UNet2DConditionModel(
        sample_size=s["latent"], in_channels=4, out_channels=4, block_out_channels=s["channels"], layers_per_block=s["per_block"],
        down_block_types=("CrossAttnDownBlock2D",) * (n - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (n - 1), cross_attention_dim=s["width"], attention_head_dim=8)
    blocks = len(s["vae"])
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=s["vae"],
        layers_per_block=s.get("vae_per_block", s["per_block"]),
        sample_size=s["latent"] * 2 ** (blocks - 1), down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks)
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text.eval(), tokenizer=tok, unet=unet.eval(), scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
