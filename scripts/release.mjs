// Publishes a release: the packages that scripts/packages.mjs lays out, those with addons first, and tags the commit. In a
// workflow of GitHub or GitLab each package has provenance, which npm offers nowhere else. docs/releasing.md has the steps.
//
//   release.mjs [--publish | --from-root]
//
// Without --publish nothing leaves the machine: it builds dist, lays the packages out, has npm go through its own checks, and
// prints what would be published. Either way it refuses a release that is not whole or not what was tested, and tells
// every reason. A run that was cut off can be repeated: what is published already is left out. --from-root keeps
// `npm publish` from publishing the folder of the checkout, which has no packages for platforms.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { CUDA, staleness } from './build-record.mjs'
import { layOut, rootManifest, tooLarge } from './packages.mjs'
import { prebuiltFile, TARGETS } from './targets.mjs'

const root = resolve(import.meta.dirname, '..')
const { values } = parseArgs({ options: { publish: { type: 'boolean' }, 'from-root': { type: 'boolean' } } })

function output(command, args, cwd = root) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  })
  return { ok: status === 0, text: stdout?.trim() ?? '', words: (stderr || error?.message || '').trim() }
}

/** True in a workflow that npm can attest. */
const attested = ['GITHUB_ACTIONS', 'GITLAB_CI'].some((name) => process.env[name] === 'true')

const git = (...args) => output('git', args).text

/** Reasons against a release that the files of the checkout tell. */
function* obstacles({ version }) {
  const changed = git('status', '--porcelain').split('\n').filter(Boolean)
  if (changed.length > 0) yield `the tree has changes that are not committed: ${changed.join(', ')}`
  const tag = `v${version}`
  const tagged = git('rev-parse', '--quiet', '--verify', `${tag}^{commit}`)
  if (tagged && tagged !== git('rev-parse', 'HEAD'))
    yield `${tag} is the tag of another commit, ${tagged}: raise the version in package.json`
  const changelog = readFileSync(join(root, 'CHANGELOG.md'), 'utf8')
  if (!changelog.split('\n').some((line) => line.split(/\s+/).slice(0, 2).join(' ') === `## ${version}`))
    yield `CHANGELOG.md has no section "## ${version}"`
  for (const target of Object.keys(TARGETS)) {
    const stale = staleness(target)
    if (stale) yield `the addon for ${target}: ${stale}; npm run build:prebuilds -- --target ${target}`
    if (stale === 'there is none') continue
    const check = output(process.execPath, [
      'scripts/check-addon.mjs',
      '--target',
      target,
      prebuiltFile(target),
    ])
    if (!check.ok) yield check.words
  }
  const pack = staleness(CUDA)
  if (pack) yield `the CUDA kernels: ${pack}; npm run cuda:pack`
  const notices = output(process.execPath, ['scripts/notices.mjs', '--check'])
  if (!notices.ok) yield notices.words
}

/** Reasons against publishing the packages as they lie there. */
function* faults(packages) {
  yield* tooLarge(packages)
  for (const { name, folder } of packages) {
    const tried = output('npm', ['publish', '--dry-run', '--ignore-scripts'], folder)
    const warnings = tried.words.split('\n').filter((line) => /^npm (warn|error)/i.test(line))
    // It says so of every dry run.
    const meant = warnings.filter(
      (line) => !/^npm warn publish This command requires you to be logged/i.test(line),
    )
    if (meant.length > 0 || !tried.ok)
      yield `${name}: npm publish --dry-run: ${meant.join('; ') || tried.words}`
  }
}

function refuse(reasons) {
  const all = [...reasons]
  if (all.length === 0) return
  console.error(['this release is refused:', ...all.map((reason) => `  - ${reason}`)].join('\n'))
  process.exit(1)
}

if (values['from-root']) {
  if (process.env.npm_config_dry_run !== 'true')
    refuse(['`npm publish` has no packages for platforms: npm run release -- --publish publishes them all'])
  process.exit()
}
const manifest = rootManifest()
refuse(obstacles(manifest))
const built = output('npm', ['run', 'build:ts'])
if (!built.ok) refuse([`npm run build:ts: ${built.words}`])
const packages = layOut(join(root, 'out', 'packages'), Object.keys(TARGETS))
refuse(faults(packages))
for (const { name, folder, bytes } of packages)
  console.log(`${name}@${manifest.version}: ${bytes} bytes unpacked, ${relative(root, folder)}`)
if (!values.publish) console.log('Nothing was published: npm run release -- --publish does it.')
else {
  if (attested && !manifest.repository) refuse(['provenance names a repository, and package.json has none'])
  // A workflow is known to npm by its identity, and has no account.
  if (!attested && !output('npm', ['whoami']).ok) refuse(['npm knows no account here: npm login'])
  const tag = `v${manifest.version}`
  for (const { name, folder } of packages) {
    if (output('npm', ['view', `${name}@${manifest.version}`, 'version']).text === manifest.version) continue
    const { status } = spawnSync(
      'npm',
      ['publish', ...(attested ? ['--provenance'] : []), '--ignore-scripts'],
      {
        cwd: folder,
        stdio: 'inherit',
      },
    )
    if (status !== 0) refuse([`npm publish of ${name} ended with ${status}; repeat the command to continue`])
  }
  if (!git('tag', '--list', tag)) git('tag', tag)
  console.log(`Published, and tagged as ${tag}: git push origin ${tag}`)
}
