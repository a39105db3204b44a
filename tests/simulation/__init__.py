"""A simulated machine in which the production code of agent, keeper and worker runs.

What runs is the real thing: the agent with all its duties and its store, the keeper
with its journal, the worker's loop with its page and journal (each of them in the
module of its name). What is simulated stands below them: both clocks, the process
table and its signals (`kernel`), the disk under SQLite (`disk`), sockets and the
event loop (`wire`); `installed` puts it there. So a process may be killed between
any two of its effects, messages may wait for ever so long, and the power may fail,
thousands of times in a minute and each time the same way.
"""
