"""The notifier: woken by change streams, it announces closed requests and delivers the webhooks about them."""
