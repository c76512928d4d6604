"""Redis: clients, publishing with a disk spool, consumer groups, webhook queues, and the embedded Valkey."""
