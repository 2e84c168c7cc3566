"""What each phase minimises and what it is judged by, a file each: clips in, one number and its terms out.

    vae_stage.py    V ─▶ posterior ─▶ z ─▶ Ṽ                                    a VAE of our own, or
    teacher.py      z ─▶ teacher ─▶ V′                                           a light decoder of Wan's latents
    prior_stage.py  x_1, ε ─▶ x_σ ─▶ velocity(x_σ, σ | given frames)            a transformer of our own
    codec_stage.py  x_1 ─▶ bottleneck ─▶ x_c, f ─▶ refiner ─▶ x̃_1 ─▶ VAE ─▶ Ṽ   warm-up, Stage I, Stage II, by weights

A clip is uint8 video B 3 T H W, or latents B 16 T h w made before. Everything random comes from the samples' numbers.
"""
