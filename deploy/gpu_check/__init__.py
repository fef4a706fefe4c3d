"""Is this machine's GPU fit for Shadowrig? `python -m deploy.gpu_check`: see deploy/GPU_CHECK.md."""
