/** Pinned CUDA compilers and object tools, taken from PyPI into out/cuda. They compile kernels on machines without a GPU. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

export const root = resolve(import.meta.dirname, '..', '..')
export const outFolder = join(root, 'out', 'cuda')

const TOOLKITS = {
  nvcc: [
    'nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03',
    'nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0',
    'nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4',
    'nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
    'nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649',
  ],
  nvrtc: [
    'nvidia-cuda-nvrtc-cu12==12.9.86 --hash=sha256:210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4',
    'nvidia-cuda-runtime-cu12==12.9.79 --hash=sha256:25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3',
    'nvidia-cuda-cccl-cu12==12.9.27 --hash=sha256:37869e17ce2e1ecec6eddf1927cca0f8c34e64fd848d40453df559091e2d7117',
    'nvidia-cuda-nvcc-cu12==12.9.86 --hash=sha256:5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0',
  ],
  objects: [
    'nvidia-cuda-cuobjdump==13.5.37 --hash=sha256:38780fee50863252a0b8926357faa91615ca1c8346490563f33a06100cd73f58',
    'nvidia-cuda-nvdisasm==13.5.37 --hash=sha256:d3fdbdd49fa53e2e4aacd3db8259d052bd2b049ececdcb69e92e083c6728e7ca',
  ],
}

/** This machine cannot have the compilers. */
export class Unavailable extends Error {}

const version = (name) => /==(\S+)/.exec(TOOLKITS[name][0])[1]

/** Folder of a toolkit's wheels, which are installed when it is first asked for. Throws Unavailable. */
function toolkit(name) {
  const folder = join(outFolder, `${name}-${version(name)}`)
  if (existsSync(folder)) return folder
  mkdirSync(outFolder, { recursive: true })
  const work = `${folder}.${process.pid}`
  const list = `${work}.txt`
  writeFileSync(list, `${TOOLKITS[name].join('\n')}\n`)
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--require-hashes', '--only-binary', ':all:']
  const args = [...pip, '--target', work, '-r', list]
  const { status, stderr, error } = spawnSync('python3', args, { encoding: 'utf8' })
  rmSync(list)
  if (status !== 0) {
    rmSync(work, { recursive: true, force: true })
    const errors = stderr?.split('\n').filter((line) => line.startsWith('ERROR')) ?? []
    throw new Unavailable(
      `the CUDA compilers cannot be installed with pip (${error?.message ?? errors.at(-1) ?? stderr.trim()}); ` +
        'they are Python wheels for Linux on x64, taken from the package index that pip is set to',
    )
  }
  try {
    renameSync(work, folder)
  } catch (error) {
    // Another process was first.
    if (!existsSync(folder)) throw error
    rmSync(work, { recursive: true })
  }
  return folder
}

/** Paths of the programs, and what each compiler calls itself. */
export function tools() {
  const nvcc = toolkit('nvcc')
  const nvrtc = join(toolkit('nvrtc'), 'nvidia')
  const objects = join(toolkit('objects'), 'nvidia')
  return {
    nvcc: join(nvcc, 'nvidia', 'cu13', 'bin', 'nvcc'),
    nvrtc: {
      library: join(nvrtc, 'cuda_nvrtc', 'lib', 'libnvrtc.so.12'),
      includes: ['cuda_runtime', 'cuda_cccl', 'cuda_nvcc'].map((part) => join(nvrtc, part, 'include')),
    },
    cuobjdump: join(objects, 'cu13', 'bin', 'cuobjdump'),
    nvdisasm: join(objects, 'cu13', 'bin', 'nvdisasm'),
    versions: { nvcc: version('nvcc'), nvrtc: version('nvrtc') },
  }
}
