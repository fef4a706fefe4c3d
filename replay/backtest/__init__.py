"""What would these rules cost, and what would they find? Rules over recorded drives, before they ship.

A drive is played through the network and tracker once (`recording`); what rules read at every tick is kept in a file
(`tick_file`). Every later backtest only evaluates rules over these recorded ticks (`evaluation`), adds up what their
clips would weigh (`clip_costs`) and sums it over all drives (`summary`), for machines and for people (`table`, `page`).
"""
