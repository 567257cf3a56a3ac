"""The ground: real control planes on one machine, for demos, tests and benchmarks.

One interface (`provider.Provider`), three providers: `local` runs etcd, kube-apiserver, kube-controller-manager,
kube-scheduler and kwok as plain processes on loopback; `existing` takes kubeconfigs; `kind` is named and refused.
Reading order: `fleet` (what everybody gets), `provider`, `plan` and `components` (pure: who runs with which flags),
`processes` and `supervisor` (who is started, by whom, how it ends), `local` (the order of things), `assets` and
`build` (where the binaries come from), `cli`.
"""
