#!/usr/bin/env bash
# Starts Pawl in containers, shows it at work, stops it: deploy/compose.sh build | up | demo | down | clean.
# The Makefile's compose-… targets call this. COMPOSE_PROJECT_NAME, PAWL_IMAGE, PAWL_HTTP_PORT and so on are those of
# docker-compose.yml: from the environment, or from the file .env beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'compose: %s\n' "$*"; }
die() { printf 'compose: %s\n' "$*" >&2; exit 1; }

READY_SECONDS=${READY_SECONDS:-180}
OWN_IMAGE=pawl:local
GUEST_LABEL=dev.pawl.sandbox.installation

docker info >/dev/null 2>&1 || die "no Docker engine answers: install and start Docker (https://docs.docker.com/engine/install/)"
if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  die "neither 'docker compose' nor docker-compose is installed"
fi

# As compose reads it, so that what stands in .env counts here too.
image() { "${compose[@]}" config | awk '/^  auth:/ {found = 1} found && !said && $1 == "image:" {print $2; said = 1}'; }

build() {
  say "building $image (the first time takes a minute, later what has changed)"
  docker build --quiet --tag "$image" --file deploy/Dockerfile . >/dev/null
  say "$image is $(docker image inspect --format '{{.Size}}' "$image" | awk '{printf "%d MB", $1 / 1000000}')"
}

# What the gateway says of the whole, and which sandbox runs code: "ready docker", "degraded", nothing yet.
state() {
  "${compose[@]}" exec -T gateway python -c '
import json, urllib.request as u
said = json.load(u.urlopen("http://127.0.0.1:8080/readyz", timeout=5))
print(said["status"], *said["sandboxes"])' 2>/dev/null || true
}

# The sandbox reaches the engine as a member of the group that owns its socket. Which one that is differs from machine
# to machine; it is put into .env once, so that compose without this script reads the same.
know_engine_group() {
  socket=${PAWL_DOCKER_SOCKET:-/var/run/docker.sock}
  if [ -n "${PAWL_DOCKER_GID:-}" ] || grep -qs '^PAWL_DOCKER_GID' .env || [ ! -S "$socket" ]; then return; fi
  gid=$(stat -c %g "$socket" 2>/dev/null || stat -f %g "$socket")
  printf '%s=%s\n' PAWL_DOCKER_GID "$gid" >> .env
  say "the group of $socket, $gid, now stands in .env"
}

up() {
  know_engine_group
  # An image that somebody named is taken as it is; ours is to be that of these sources.
  if [ "$image" = "$OWN_IMAGE" ] || ! docker image inspect "$image" >/dev/null 2>&1; then build; fi
  began=$SECONDS
  "${compose[@]}" up --detach || die "it did not start; see: ${compose[*]} logs first migrate"
  until [[ $(state) == ready* ]]; do
    if [ $((SECONDS - began)) -ge "$READY_SECONDS" ]; then
      "${compose[@]}" ps
      die "not ready after $READY_SECONDS s; see: ${compose[*]} logs"
    fi
    sleep 1
  done
  await_sandbox
  "${compose[@]}" ps
  say "ready after $((SECONDS - began)) s at http://$("${compose[@]}" port gateway 8080)"
  say "the operator's key:  ${compose[*]} run --rm --entrypoint cat pawl /run/pawl/api_key"
  say "the command line:    ${compose[*]} run --rm pawl tenants list"
}

# Without it all else works, so its absence is said and no more.
await_sandbox() {
  if [[ $(state) == "ready "* ]]; then return; fi
  say "waiting for the sandbox; its image is built at the first start, which takes a minute"
  until [[ $(state) == "ready "* ]]; do
    if [ $((SECONDS - began)) -ge "$READY_SECONDS" ]; then
      say "no sandbox after $READY_SECONDS s: code steps are refused until there is one; see: ${compose[*]} logs sandbox"
      return
    fi
    sleep 1
  done
}

# Guests of the sandbox are containers beside the project: compose knows nothing of them. A sandbox that is stopped
# removes its own; one that was killed leaves them, ended.
down() {
  label=
  if [ -n "$(guests "$GUEST_LABEL")" ]; then
    label=$GUEST_LABEL=$("${compose[@]}" run --rm --no-deps -T executor python -P -c '
from pathlib import Path
from services.executor.sandbox.installation import installation_of
print(installation_of(Path("/run/pawl/public_keys.json")))' 2>/dev/null) || label=
    if [ -z "$label" ]; then say "whose guests there are is not known; by hand: docker ps --all --filter label=$GUEST_LABEL"; fi
  fi
  "${compose[@]}" down "$@"
  if [ -n "$label" ]; then guests "$label" | while read -r guest; do docker rm --force "$guest" >/dev/null; done; fi
}

guests() { docker ps --all --quiet --filter "label=$1"; }

image=$(image)
case ${1:-} in
  build) build ;;
  up)    up ;;
  demo)  up; "${compose[@]}" run --rm pawl demo --url http://gateway:8080 ;;
  down)  down; say "stopped; what was stored is kept in volumes (make compose-clean removes them)" ;;
  clean) down --volumes ;;
  *)     die "usage: deploy/compose.sh build | up | demo | down | clean" ;;
esac
