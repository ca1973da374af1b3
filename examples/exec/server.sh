#!/bin/sh
# SPDX-License-Identifier: MIT
# Stands for a server: it reads its file at the start and at HUP, and its token from the environment.
load() { echo "server: $(cat greeting.txt), a token of ${#TOKEN} characters"; }
trap load HUP
trap 'echo "server: stops"; exit 0' TERM INT
load
while :; do sleep 0.1; done
