"""History (the last seconds of everything, on tmpfs), and the recorder that cuts sealed clips out of it."""
