package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func labelsOf(w workload) labels.Set { return w.pod.Labels }

// Rendering decodes every object strictly, so this also finds unknown fields.
func TestEveryExampleRendersObjectsOfKnownTypes(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for _, o := range c.objects {
			meta := o.(metav1.Object)
			require.NotEmpty(t, meta.GetName())
			require.LessOrEqual(t, len(meta.GetName()), 63)
			require.Equal(t, "daemon-gateway", meta.GetLabels()["app.kubernetes.io/name"], meta.GetName())
		}
	})
}

func TestSelectorsSelectTheirOwnPodsAlone(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for _, w := range c.workloads() {
			if w.selector != nil {
				require.Len(t, c.matching(w.selector), 1, w.name)
			}
			for _, spread := range w.pod.Spec.TopologySpreadConstraints {
				require.Len(t, c.matching(spread.LabelSelector), 1, w.name)
			}
		}
		for name, budget := range all[policyv1.PodDisruptionBudget](c) {
			require.Len(t, c.matching(budget.Spec.Selector), 1, name)
		}
		for name, policy := range all[networkingv1.NetworkPolicy](c) {
			require.Len(t, c.matching(&policy.Spec.PodSelector), 1, name)
		}
	})
}

// hasPort reports whether a container has a port of that name or number.
func hasPort(container corev1.Container, port intstr.IntOrString, protocol corev1.Protocol) bool {
	for _, p := range container.Ports {
		udp := p.Protocol == corev1.ProtocolUDP
		if udp == (protocol == corev1.ProtocolUDP) && (p.Name == port.StrVal || p.ContainerPort == port.IntVal) {
			return true
		}
	}
	return false
}

func TestServicesAndPoliciesSpeakOfPortsThatThePodsHave(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for name, service := range all[corev1.Service](c) {
			behind := c.matching(&metav1.LabelSelector{MatchLabels: service.Spec.Selector})
			require.NotEmpty(t, behind, name)
			for _, w := range behind {
				for _, p := range service.Spec.Ports {
					require.True(t, hasPort(w.container(), p.TargetPort, p.Protocol), "%s: %s has no port %s", name, w.name, p.TargetPort.String())
				}
			}
		}
		for name, policy := range all[networkingv1.NetworkPolicy](c) {
			w := c.matching(&policy.Spec.PodSelector)[0]
			for _, rule := range policy.Spec.Ingress {
				for _, p := range rule.Ports {
					protocol := corev1.ProtocolTCP
					if p.Protocol != nil {
						protocol = *p.Protocol
					}
					require.True(t, hasPort(w.container(), *p.Port, protocol), "%s: %s", name, p.Port.String())
				}
			}
		}
	})
}

func TestTheGossipServiceHasAllMembersReadyOrNot(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for tier, d := range c.tiers() {
			_, values := c.environment(d.Spec.Template.Spec.Containers[0])
			if tier == "bridge" {
				require.NotContains(t, values, "GOSSIP_JOIN")
				continue
			}
			name, port, _ := strings.Cut(values["GOSSIP_JOIN"], ":")
			service := all[corev1.Service](c)[name]
			require.NotNil(t, service, name)
			require.Equal(t, corev1.ClusterIPNone, service.Spec.ClusterIP)
			require.True(t, service.Spec.PublishNotReadyAddresses)
			require.Equal(t, "7946", port)
			require.Len(t, c.matching(&metav1.LabelSelector{MatchLabels: service.Spec.Selector}), 2, "edges and routers")
		}
	})
}

func TestARolloutStopsOneEdgeAfterAnother(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for tier, d := range c.tiers() {
			pod := d.Spec.Template.Spec
			_, values := c.environment(pod.Containers[0])
			stop := seconds(t, values["SHUTDOWN_TIMEOUT"])
			if tier == "edge" {
				require.Greater(t, stop, seconds(t, values["DRAIN_PERIOD"])+7, "a stop also writes cursors and closes")
			}
			if hook := pod.Containers[0].Lifecycle; hook != nil {
				stop += hook.PreStop.Sleep.Seconds
			}
			require.Greater(t, *pod.TerminationGracePeriodSeconds, stop, "%s would be killed", tier)
			require.GreaterOrEqual(t, int64(d.Spec.MinReadySeconds), *pod.TerminationGracePeriodSeconds,
				"%s: Kubernetes does not wait for pods that are stopping", tier)
			require.Greater(t, *d.Spec.ProgressDeadlineSeconds, d.Spec.MinReadySeconds)
			require.Equal(t, appsv1.RollingUpdateDeploymentStrategyType, d.Spec.Strategy.Type)
			require.Equal(t, "0", d.Spec.Strategy.RollingUpdate.MaxUnavailable.String())
			require.Equal(t, "1", d.Spec.Strategy.RollingUpdate.MaxSurge.String())
		}
	})
}

// Reports: windmill-labs/windmill-helm-charts#543, helm/helm#12650.
func TestADisruptionBudgetAlwaysLeavesAPodAndAlwaysAllowsOne(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		budgets := all[policyv1.PodDisruptionBudget](c)
		for _, d := range c.tiers() {
			replicas := int32(1)
			scaler, scaled := all[autoscalingv2.HorizontalPodAutoscaler](c)[d.Name]
			if scaled {
				require.Nil(t, d.Spec.Replicas, "an upgrade would undo what the autoscaler chose")
				require.Equal(t, d.Name, scaler.Spec.ScaleTargetRef.Name)
				replicas = *scaler.Spec.MinReplicas
			} else {
				replicas = *d.Spec.Replicas
			}
			budget, ok := budgets[d.Name]
			require.Equal(t, replicas > 1, ok, d.Name)
			if ok {
				require.Positive(t, budget.Spec.MaxUnavailable.IntVal)
				require.Less(t, budget.Spec.MaxUnavailable.IntVal, replicas)
			}
		}
	})
}

func TestPodsMeetTheRestrictedLevelOfPodSecurity(t *testing.T) {
	t.Parallel()
	eachExample(t, func(t *testing.T, c *installation) {
		for _, w := range c.workloads() {
			pod := w.pod.Spec
			require.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC, w.name)
			require.Empty(t, pod.SecurityContext.Sysctls, w.name)
			require.Nil(t, pod.SecurityContext.SELinuxOptions, w.name)
			require.Nil(t, pod.SecurityContext.AppArmorProfile, w.name)
			require.Nil(t, pod.SecurityContext.WindowsOptions, w.name)
			require.Empty(t, pod.EphemeralContainers, w.name)
			require.True(t, *pod.SecurityContext.RunAsNonRoot, w.name)
			require.Positive(t, *pod.SecurityContext.RunAsUser, w.name)
			require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type, w.name)
			require.False(t, *pod.AutomountServiceAccountToken, w.name)
			require.Empty(t, pod.InitContainers, w.name)
			for _, container := range pod.Containers {
				// What the pod has set must not be undone.
				own := *container.SecurityContext
				own.AllowPrivilegeEscalation, own.ReadOnlyRootFilesystem, own.Capabilities = nil, nil, nil
				require.Equal(t, corev1.SecurityContext{}, own, w.name)
				for _, port := range container.Ports {
					require.Zero(t, port.HostPort, w.name)
				}
				require.False(t, *container.SecurityContext.AllowPrivilegeEscalation, w.name)
				require.True(t, *container.SecurityContext.ReadOnlyRootFilesystem, w.name)
				require.Equal(t, []corev1.Capability{"ALL"}, container.SecurityContext.Capabilities.Drop, w.name)
				require.Empty(t, container.SecurityContext.Capabilities.Add, w.name)
				require.NotZero(t, container.Resources.Requests.Cpu().MilliValue(), w.name)
				require.NotZero(t, container.Resources.Limits.Memory().Value(), w.name)
			}
			for _, v := range pod.Volumes {
				known := v.Projected != nil || v.Secret != nil || v.ConfigMap != nil || v.PersistentVolumeClaim != nil || v.EmptyDir != nil
				require.True(t, known, "%s: volume %s", w.name, v.Name)
			}
		}
	})
}
