# syntax=docker/dockerfile:1

# One image holds all programs of the gateway: a node pulls it once, and the
# three tiers are always of the same build. Which program runs is the command:
#
#   docker run daemon-gateway /router --help
#
# Releases are not built with it, but by deploy/check/release (make release), so that
# they are the same bytes wherever they are built. It makes the same image, but
# for the authorities, which are here those of Go's image.

ARG GO_VERSION=1.26

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY cmd cmd
COPY internal internal
COPY pkg pkg
ARG VERSION=devel
ARG REVISION=unknown
ARG TARGETOS
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
      -ldflags "-X github.com/neolith/daemon-gateway/internal/buildinfo.version=$VERSION -X github.com/neolith/daemon-gateway/internal/buildinfo.revision=$REVISION" \
      -o /out/ ./cmd/edge ./cmd/router ./cmd/publisher-bridge ./cmd/gateway-admin ./cmd/gatewayctl
# The names that commands of gatewayctl had as programs of their own, for a release.
RUN for name in gateway-backup gateway-restore gateway-probe; do ln -s gatewayctl "/out/$name"; done

FROM scratch
# The authorities that may have signed the certificate of a NATS or Redis server.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ /
ENV PATH=/
# Numeric, so that Kubernetes can see that it is not root.
USER 65532:65532
# Daemons, gossip, administration.
EXPOSE 8080 8081 7946 7946/udp 9090
CMD ["/edge", "--help"]

ARG VERSION=devel
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Daemon Gateway" \
      org.opencontainers.image.description="Edge, router and publisher bridge of the Daemon Gateway" \
      org.opencontainers.image.vendor="Neolith" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/neolith/daemon-gateway" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
