"""The watcher: woken by change streams, it claims images, downloads, compresses and stores them."""
