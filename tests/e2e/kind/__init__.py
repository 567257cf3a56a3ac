"""End to end in clusters: real kubelets, containers, helm, kubectl. `make e2e PROVIDER=kind` runs them."""
