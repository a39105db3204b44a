"""When: expressions of time, as pure values. Text in, instants (µs UTC) out; no clock is read here."""
