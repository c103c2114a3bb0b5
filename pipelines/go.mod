module distro.internal/pipelines

go 1.26.0
