"""How the daemon shows that it is well: latencies, real-time settings, watchdog, status files, doctor."""
