#!/usr/bin/env bash
# Makes crates/freehold-ledger/page/vendor.js again from package-lock.json: the libraries that the ledger's page draws
# with, and their licences. Needs npm and the registry; no build does. Usage: scripts/page.sh [check]
set -euo pipefail
. "$(dirname "$0")/lib.sh"

have npm || die "npm is needed to bundle the page's libraries"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp crates/freehold-ledger/page/{package.json,package-lock.json,vendor.entry.js} "$scratch"
(
    cd "$scratch"
    npm ci --silent --no-audit --no-fund
    # What the bundle holds, and under which licence: the packages that esbuild read, by its own account.
    node_modules/.bin/esbuild vendor.entry.js --bundle --minify --format=iife --global-name=vendor --target=es2020 \
        --legal-comments=none --metafile=meta.json --outfile=bundle.js --log-level=warning
    node - <<'EOF'
const fs = require("fs");
const inputs = Object.keys(JSON.parse(fs.readFileSync("meta.json")).inputs);
const packages = [...new Set(inputs.map((p) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(p)?.[1]).filter(Boolean))].sort();
const texts = new Map();
for (const name of packages) {
  const folder = `node_modules/${name}`;
  const { version } = JSON.parse(fs.readFileSync(`${folder}/package.json`));
  const file = fs.readdirSync(folder).find((f) => /^licen[cs]e/i.test(f));
  if (!file) throw new Error(`${name} has no licence file`);
  const text = fs.readFileSync(`${folder}/${file}`, "utf8").trim();
  texts.set(text, [...(texts.get(text) ?? []), `${name} ${version}`]);
}
const notice = [...texts].map(([text, names]) => `${names.join(", ")}\n\n${text}`).join("\n\n---\n\n");
if (/\*\/|<\/script|<!--/i.test(notice)) throw new Error("a licence has text that would end the comment");
const code = fs.readFileSync("bundle.js", "utf8").replace(/<(\/script|!--)/gi, "\\x3c$1");
fs.writeFileSync("vendor.js", `/* Made by scripts/page.sh from package-lock.json; do not edit.\n\n${notice}\n*/\n${code}`);
EOF
)
target=crates/freehold-ledger/page/vendor.js
if [ "${1:-}" = check ]; then
    cmp "$scratch/vendor.js" "$target" || die "$target is not what package-lock.json gives: scripts/page.sh"
else
    cp "$scratch/vendor.js" "$target"
fi
say "$target: $(wc -c <"$target") bytes"
