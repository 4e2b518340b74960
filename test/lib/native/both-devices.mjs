// The same training on the CPU and on the first GPU, and how far apart they are. For scripts that run in a process of their own,
// so that the driver can be chosen before the engine opens it.

/**
 * Prints a line of JSON: the losses, and how far apart what each of the first two steps changed is, by parameter.
 * @param trained trains on a device, and resolves to the losses and changes
 */
export async function compareDevices(name, trained) {
  const [cpu, cuda] = [await trained('cpu'), await trained('cuda')]
  const apart = Object.fromEntries(
    cpu.changes.map(({ of, change }, i) => [of, distance(cuda.changes[i].change, change)]),
  )
  console.log(JSON.stringify({ name, cpu: cpu.losses, cuda: cuda.losses, apart }))
}

/** Losses of a training run, and what its first two steps change. @param run as of adapter.train() */
export async function stepsOf(adapter, run) {
  const parameters = adapter.state.description.spec.parameters.filter(({ trained }) => trained)
  const values = () => parameters.map(({ name: parameter }) => adapter.state.native.read(parameter, 'value'))
  const losses = []
  const changes = []
  let before = values()
  for await (const { loss } of run) {
    losses.push(loss)
    if (losses.length > 2) continue
    const after = values()
    for (const [i, { name: parameter }] of parameters.entries()) {
      const change = after[i].map((value, j) => value - before[i][j])
      changes.push({ of: `${parameter}, step ${losses.length}`, change })
    }
    before = after
  }
  return { losses, changes }
}

/** Norm of the difference by that of what is expected. */
function distance(found, expected) {
  const norm = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
  const difference = norm(found.map((value, i) => value - expected[i]))
  return difference === 0 ? 0 : difference / norm(expected)
}
