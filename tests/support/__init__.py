"""What tests share: fleets of real control planes, builders, fakes that say where they lie."""
