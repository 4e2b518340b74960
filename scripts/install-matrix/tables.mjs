/** Tables of scripts/install-matrix.mjs. */
import { table } from '../markdown.mjs'

/** The result of a row in a word. */
export const outcome = ({ skipped, problem }) =>
  skipped ? `not tried: ${skipped}` : problem ? 'FAILED' : 'ok'

const mebibytes = (bytes) => (bytes === undefined ? '' : `${(bytes / 2 ** 20).toFixed(1)} MiB`)

/** Results of scripts/install-matrix.mjs, as a page shows them. */
export function markdown({ version, machine: where, tarball, installs: rows, typescript }) {
  const head = 'Node|package manager|command|prebuilt addon|compiler|addon in use|seconds|node_modules|result'
  const installed = rows.map((row) => [
    row.node,
    row.manager,
    `\`${row.command.replace(/(?=,|$)/, '`')}`,
    row.prebuilt,
    row.compiler,
    row.expected,
    row.seconds?.toFixed(1) ?? '',
    mebibytes(row.bytes),
    outcome(row),
  ])
  const names = [...new Set(typescript.flatMap(({ settings }) => settings ?? []))]
  const checked = typescript.map((row) => [row.typescript, ...names.map(() => outcome(row))])
  const size = `${mebibytes(tarball.packed)}, unpacked ${mebibytes(tarball.unpacked)} and ${mebibytes(tarball.addon)} of addon`
  return `${[
    `lowrank ${version}; tarball ${size}; on ${where}`,
    ...(installed.length > 0 ? [table(head.split('|'), installed)] : []),
    ...(checked.length > 0 ? [table(['TypeScript', ...names.map((name) => `\`${name}\``)], checked)] : []),
  ].join('\n\n')}\n`
}
