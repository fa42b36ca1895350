"""What tests share: servers, actors, factories, clients."""
