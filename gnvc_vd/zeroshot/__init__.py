"""GVC: the zero-shot codec. A stream names the noise that steers a pretrained video model to the picture."""
