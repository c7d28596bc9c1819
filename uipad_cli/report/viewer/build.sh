#!/bin/sh
# Builds viewer.js from our two sources and the pinned three.js, and records the sums of what belongs together.
# Needs Node.js and npm; nothing but the results stays behind. Run it after every change in this folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/*.mjs "$here/package.json" "$work"
cd "$work"
npm install --no-package-lock --no-audit --no-fund --ignore-scripts
cp node_modules/three/LICENSE "$here/LICENSE.three.txt"
# The licence asks for its text in every copy, and every report is one.
banner=$(printf '/*! viewer of uipad with three.js\n'; sed 's/©/(c)/' node_modules/three/LICENSE; printf '*/')
npx esbuild viewer.mjs --bundle --minify --format=iife --target=es2020 --charset=ascii --legal-comments=none \
  --banner:js="$banner" --outfile="$here/viewer.js"
cd "$here"
sha256sum package.json part.mjs viewer.mjs viewer.js LICENSE.three.txt > viewer.sha256
