#!/usr/bin/env bash
# A real Slurm on this machine alone: one controller, two virtual nodes, munge. Needs root and Debian's
# packages slurm-wlm and munge.   slurm_cluster.sh start DIR | slurm_cluster.sh stop DIR
# Everything lies below DIR; clients find it with SLURM_CONF=DIR/slurm.conf.
set -euo pipefail
action=$1
home=$(mkdir -p "$2" && cd "$2" && pwd)

stop() {
  for name in slurmd.n1 slurmd.n2 slurmctld munged; do
    [ -f "$home/$name.pid" ] && kill "$(cat "$home/$name.pid")" 2>/dev/null || true
  done
  for _ in $(seq 50); do
    left=0
    for name in slurmd.n1 slurmd.n2 slurmctld munged; do
      [ -f "$home/$name.pid" ] && kill -0 "$(cat "$home/$name.pid")" 2>/dev/null && left=1
    done
    [ "$left" = 0 ] && return 0
    sleep 0.2
  done
}

if [ "$action" = stop ]; then stop; exit 0; fi

mkdir -p "$home/state" "$home/spool.n1" "$home/spool.n2" "$home/munge"
chmod 0755 "$home" "$home/munge"
dd if=/dev/urandom of="$home/munge/key" bs=128 count=1 status=none
chmod 0400 "$home/munge/key"
base=$((20000 + RANDOM % 20000))
cat >"$home/slurm.conf" <<CONF
ClusterName=voxharness
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$base
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool.%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,requeue_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=5
InactiveLimit=0
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$((base + 1)) CPUs=1 RealMemory=4096 State=UNKNOWN
NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$((base + 2)) CPUs=1 RealMemory=4096 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$home/slurm.conf
trap 'stop' ERR
munged --force --key-file="$home/munge/key" --socket="$home/munge/socket" --pid-file="$home/munged.pid" \
  --log-file="$home/munged.log" --seed-file="$home/munge/seed" --num-threads=1
slurmctld -c
slurmd -N n1
slurmd -N n2
for _ in $(seq 100); do
  [ "$(sinfo --noheader --Node --format=%t 2>/dev/null | grep -c idle)" = 2 ] && exit 0
  sleep 0.2
done
echo "the nodes did not come up; the logs in $home say why" >&2
tail -n 5 "$home"/*.log >&2
stop
exit 1
