"""The flags of the READMEs of improved-diffusion and guided-diffusion, a line per model.

Facts of github.com/openai/improved-diffusion and openai/guided-diffusion, read in their READMEs.
"""

_I64 = "--image_size 64 --num_channels 128 --num_res_blocks 3"
_I32 = "--image_size 32 --num_channels 128 --num_res_blocks 3 --learn_sigma True --dropout 0.3"
_LSUN = (
    "--image_size 256 --num_channels 128 --num_res_blocks 2 --num_heads 1 --learn_sigma True "
    "--use_scale_shift_norm False --attention_resolutions 16 --diffusion_steps 1000 "
    "--noise_schedule linear --rescale_learned_sigmas False --rescale_timesteps False"
)
_VLB = "--diffusion_steps 4000 --noise_schedule cosine --use_kl True --lr 1e-4 --batch_size 128"
IMPROVED = [
    f"{_I64} --diffusion_steps 4000 --noise_schedule linear --lr 1e-4 --batch_size 128",
    f"{_I64} --learn_sigma True --diffusion_steps 4000 --noise_schedule cosine --lr 1e-4 "
    "--batch_size 128",
    f"{_I32} --diffusion_steps 4000 --noise_schedule cosine --lr 1e-4 --batch_size 128",
    "--image_size 64 --num_channels 192 --num_res_blocks 3 --learn_sigma True --class_cond True "
    "--diffusion_steps 4000 --noise_schedule cosine --rescale_learned_sigmas False "
    "--rescale_timesteps False --lr 3e-4 --batch_size 2048",
    "--num_channels 192 --num_res_blocks 2 --learn_sigma True --class_cond True "
    "--diffusion_steps 4000 --noise_schedule linear --rescale_learned_sigmas False "
    "--rescale_timesteps False --lr 3e-4 --batch_size 256",
    f"{_LSUN} --lr 1e-4 --batch_size 128",
    f"{_LSUN} --use_scale_shift_norm False --lr 2e-5 --batch_size 128",
    f"{_I64} --learn_sigma True {_VLB} --schedule_sampler loss-second-moment",
    f"{_I32} {_VLB} --schedule_sampler loss-second-moment",
]

_SAMPLE = "--batch_size 4 --num_samples 100 --timestep_respacing 250"
_GUIDED = (
    "--diffusion_steps 1000 --learn_sigma True --num_channels 256 --num_res_blocks 2 "
    "--resblock_updown True --use_fp16 True --use_scale_shift_norm True --noise_schedule linear"
)
_G256 = f"--attention_resolutions 32,16,8 --image_size 256 --num_head_channels 64 {_GUIDED}"
_G_UP = (
    "--class_cond True --diffusion_steps 1000 --learn_sigma True --noise_schedule linear "
    "--num_channels 192 --num_res_blocks 2 --resblock_updown True --use_fp16 True "
    f"--use_scale_shift_norm True {_SAMPLE}"
)
GUIDED = [
    "--attention_resolutions 32,16,8 --class_cond True --diffusion_steps 1000 --dropout 0.1 "
    "--image_size 64 --learn_sigma True --noise_schedule cosine --num_channels 192 "
    "--num_head_channels 64 --num_res_blocks 3 --resblock_updown True "
    "--use_new_attention_order True --use_fp16 True --use_scale_shift_norm True "
    f"--classifier_scale 1.0 --classifier_depth 4 {_SAMPLE}",
    "--attention_resolutions 32,16,8 --class_cond True --image_size 128 --num_heads 4 "
    f"{_GUIDED} --classifier_scale 0.5 {_SAMPLE}",
    f"{_G256} --class_cond True --classifier_scale 1.0 {_SAMPLE}",
    f"{_G256} --class_cond False --classifier_scale 10.0 {_SAMPLE}",
    "--attention_resolutions 32,16,8 --class_cond True --image_size 512 --num_head_channels 64 "
    f"{_GUIDED} --use_fp16 False --classifier_scale 4.0 {_SAMPLE}",
    f"--attention_resolutions 32,16,8 --large_size 256  --small_size 64 --num_heads 4 {_G_UP}",
    f"--attention_resolutions 32,16 --large_size 512 --small_size 128 --num_head_channels 64 "
    f"{_G_UP}",
    f"{_G256} --class_cond False --dropout 0.1 {_SAMPLE} --timestep_respacing 1000",
    f"{_G256} --class_cond False --dropout 0.0 {_SAMPLE} --timestep_respacing 1000",
    "--attention_resolutions 32,16,8 --class_cond True --image_size 128 --learn_sigma True "
    "--num_channels 256 --num_heads 4 --num_res_blocks 2 --resblock_updown True --use_fp16 True "
    "--use_scale_shift_norm True --classifier_scale 1.0 --classifier_use_fp16 True "
    "--batch_size 4 --num_samples 50000 --timestep_respacing ddim25 --use_ddim True",
]
CLASSIFIERS = {
    64: "--classifier_depth 4",
    128: "--classifier_attention_resolutions 32,16,8 --classifier_depth 2 --classifier_width 128 "
    "--classifier_pool attention --classifier_resblock_updown True "
    "--classifier_use_scale_shift_norm True --iterations 300000 --anneal_lr True "
    "--batch_size 256 --lr 3e-4 --save_interval 10000 --weight_decay 0.05",
    256: "--classifier_scale 1.0",
    512: "--classifier_scale 4.0",
}
LINES = [("improved", line) for line in IMPROVED] + [("guided", line) for line in GUIDED]
